"""Which strategies there are, by name; their configurations; and a new one's first file."""

from strategies.registry.configs import config_dict, make_config
from strategies.registry.lookup import available, build, get, load_plugin
from strategies.registry.new import write_strategy
from strategies.registry.source import source_digest

__all__ = ["available", "build", "config_dict", "get", "load_plugin", "make_config", "source_digest", "write_strategy"]
