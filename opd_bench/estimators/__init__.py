"""One file per published method. Nothing to register: a YAML in conf/method names the class."""
