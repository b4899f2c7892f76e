"use strict";

/** Numbers as such, text in its order; what is missing comes last whichever way it is sorted. */
function compare(one, other, isText, sign) {
  if (one === undefined || other === undefined) {
    return (one === undefined) - (other === undefined);
  }
  return sign * (isText ? one.localeCompare(other, "en", { numeric: true }) : Number(one) - Number(other));
}

function sortBy(button, rows) {
  const head = button.closest("th");
  const before = head.getAttribute("aria-sort");
  const opposite = { ascending: "descending", descending: "ascending" };
  const way = before ? opposite[before] : button.dataset.first;
  for (const other of head.parentElement.cells) {
    other.removeAttribute("aria-sort");
  }
  head.setAttribute("aria-sort", way);
  const value = (row) => row.cells[head.cellIndex].dataset.value;
  const isText = "text" in button.dataset;
  const sorted = [...rows].sort((a, b) => compare(value(a), value(b), isText, way === "ascending" ? 1 : -1));
  head.closest("table").tBodies[0].append(...sorted);
}

function prepare(board) {
  const rows = [...board.querySelectorAll(".methods > tr")];
  const [find, ranked, right, count] = [".find", ".only-ranked", ".not-wrong", ".count"].map((one) => board.querySelector(one));
  function filter() {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) {
      const kept = words.every((word) => row.dataset.find.includes(word));
      const left = (ranked.checked && row.classList.contains("unranked")) || (right.checked && row.classList.contains("warned"));
      row.hidden = left || !kept;
    }
    const shown = rows.filter((row) => !row.hidden).length;
    const what = rows.length === 1 ? "method" : "methods";
    count.textContent = shown === rows.length ? `${shown} ${what}` : `${shown} of ${rows.length} ${what}`;
  }
  for (const control of [find, ranked, right]) {
    control.addEventListener("input", filter);
  }
  for (const button of board.querySelectorAll("thead button")) {
    button.addEventListener("click", () => sortBy(button, rows));
  }
  board.querySelector(".filters").hidden = false;
  filter();
}

/** A section that an address points to is opened. */
function open(address) {
  const found = document.getElementById(decodeURIComponent(address.slice(1)));
  if (found instanceof HTMLDetailsElement) {
    found.open = true;
    found.scrollIntoView();
    found.querySelector("summary").focus({ preventScroll: true });
  }
}

function themes(button) {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const name = () => {
    button.textContent = isDark() ? "Light theme" : "Dark theme";
  };
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    name();
  });
  system.addEventListener("change", name);
  button.hidden = false;
  name();
}

document.querySelectorAll(".board").forEach(prepare);
themes(document.querySelector(".theme"));
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href^='#']");
  if (link) {
    open(link.hash);
  }
});
if (location.hash) {
  open(location.hash);
}
addEventListener("hashchange", () => open(location.hash));
