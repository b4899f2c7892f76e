"""A run as a row of TensorBoard's HPARAMS table: how it was set, what it came to."""

import math
import time
from collections.abc import Iterator, Mapping
from typing import Any

from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.hparams.api_pb2 import DataType, Experiment, HParamInfo, MetricInfo, MetricName, Status
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo

from opd_bench.reporting.figures import number
from opd_bench.training.evaluation import tagged

COLUMNS = (
    *("eval/final_sampled", "eval/final_greedy", "train/final_reverse_kl"),
    *("grad/final_relative_variance", "grad/final_bias_reverse_kl", "grad/final_norm_median"),
    *("eval/final_formatted", "eval/final_truncated", "eval/final_length"),
)
"""The figures shown, the same for every run, however it ended: TensorBoard takes one run's columns for all."""

FIRST = ("method", "protocol", "seed", "start", "status")
"""Settings that the table shows unasked: TensorBoard puts those first that are said to differ, and shows five."""


def final_figures(content: Mapping[str, Any]) -> dict[str, float]:
    """What a run came to, as far as it came; what is not finite is left out."""
    training = content["training"]
    found = {
        **tagged("eval/final_", content["evaluation"]["after"]),
        "train/final_reverse_kl": training["reverse_kl"].get("last"),
        "grad/final_norm_median": training["gradient_norm"].get("median"),
        "grad/final_relative_variance": training["gradient"].get("relative_variance"),
        "grad/final_bias_reverse_kl": training["gradient"].get("bias_reverse_kl"),
    }
    known = {tag: number(value) for tag, value in found.items()}
    return {tag: value for tag, value in known.items() if value is not None and math.isfinite(value)}


def settings(content: Mapping[str, Any]) -> dict[str, str | float]:
    """What runs differ in: the method and what it reads of both models, the protocol, the seed, and how it ended."""
    method, protocol, plan = content["method"], content["protocol"], content["config"]["plan"]
    return {
        "method": method["name"],
        "method settings": ", ".join(f"{name}={value}" for name, value in method["settings"].items()),
        "source": method["source"]["name"],
        "seed": content["seed"],
        "protocol": f"{protocol['name']}-{protocol['digest']}",
        "start": content["start"],
        "status": content["status"],
        **{f"reads of {model}": read for model, read in method["cost"].items()},
        **{name: plan[name] for name in ("learning_rate", "steps", "prompts", "rollouts")},
        "clip": str(plan["clip"]),
    }


def table_row(content: Mapping[str, Any]) -> Iterator[Summary]:
    """The three entries that TensorBoard wants: all columns, this run's settings, and whether it went well."""
    values = settings(content)
    columns = [HParamInfo(name=name, type=_kind(value), differs=name in FIRST) for name, value in values.items()]
    metrics = [MetricInfo(name=MetricName(tag=tag)) for tag in COLUMNS]
    start = SessionStartInfo(start_time_secs=time.time() - content["timing"]["seconds"]["total"])
    for name, value in values.items():
        setattr(start.hparams[name], "string_value" if isinstance(value, str) else "number_value", value)
    status = Status.STATUS_SUCCESS if content["status"] == "finished" else Status.STATUS_FAILURE
    end = SessionEndInfo(status=status, end_time_secs=time.time())
    yield _entry(metadata.EXPERIMENT_TAG, experiment=Experiment(hparam_infos=columns, metric_infos=metrics))
    yield _entry(metadata.SESSION_START_INFO_TAG, session_start_info=start)
    yield _entry(metadata.SESSION_END_INFO_TAG, session_end_info=end)


def _kind(value: str | float) -> int:
    kind: int = DataType.DATA_TYPE_STRING if isinstance(value, str) else DataType.DATA_TYPE_FLOAT64
    return kind


def _entry(tag: str, **content: Any) -> Summary:
    known = metadata.create_summary_metadata(HParamsPluginData(**content))
    return Summary(value=[Summary.Value(tag=tag, metadata=known, tensor=metadata.NULL_TENSOR)])
