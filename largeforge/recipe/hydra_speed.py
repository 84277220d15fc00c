"""Some places where Hydra and OmegaConf take time that grows with the square of a recipe, or more than they must.

Each is replaced by what gives the same result for files that were vetted. Nothing here decides
what a recipe may say.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Callable

    from omegaconf import Container

_TEXT = yaml.resolver.BaseResolver.DEFAULT_SCALAR_TAG
_CLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def speed_up() -> None:
    """Put the replacements in place; to be called once."""
    from hydra._internal import defaults_list
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from omegaconf import OmegaConf, _utils

    # For each entry of a defaults list Hydra collects all others, in case that it is `${…}`: a fifth of the
    # time of a plan. Such entries are refused here, so that nothing has to be collected.
    defaults_list._create_interpolation_map = lambda *_: OmegaConf.create()
    # LargeForge's own `conf/` is read by OmegaConf itself.
    loader = _loader()
    _utils.get_yaml_loader = lambda: loader
    usual = ConfigLoaderImpl._compose_config_from_defaults_list
    ConfigLoaderImpl._compose_config_from_defaults_list = lambda *given, **named: _composed(usual, *given, **named)


def _composed(usual: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """Compose as Hydra does, and correct the parents of nodes once at the end instead of after each file.

    After every merge OmegaConf visits the whole tree that there is so far (`BaseContainer._merge_with`
    in omegaconf 2.3): with 250 files that is nine tenths of the composition.
    """
    from omegaconf.basecontainer import BaseContainer

    container: Any = BaseContainer
    merge = container._merge_with
    container._merge_with = _merged
    try:
        config = usual(*given, **named)
    finally:
        container._merge_with = merge
    config._re_parent()
    return config


def _merged(self: Any, *others: Any) -> None:
    """Merge as `BaseContainer._merge_with`, but correct only the items of lists: mappings set their own."""
    from omegaconf import DictConfig, ListConfig
    from omegaconf.basecontainer import BaseContainer

    for other in others:
        if isinstance(self, DictConfig) and isinstance(other, DictConfig):
            BaseContainer._map_merge(self, other)
        elif isinstance(self, ListConfig) and isinstance(other, ListConfig):
            BaseContainer._list_merge(self, other)
            self._re_parent()
        else:
            raise TypeError("Cannot merge DictConfig with ListConfig")


def parsed(text: str) -> Container:
    """Return vetted YAML as OmegaConf has it, read by libyaml: ten times as fast as OmegaConf's own reader."""
    return as_config(plain(text))


def plain(text: str) -> Any:
    """Return vetted YAML as plain data, with values as OmegaConf reads them."""
    return yaml.load(text, Loader=_loader()) or {}


def as_config(content: Any) -> Container:
    """Return plain data as OmegaConf has it."""
    from omegaconf import OmegaConf

    found: Container = OmegaConf.create(content)
    return found


@cache
def _loader() -> Any:
    """Return a reader that takes plain words for the same values as OmegaConf's (`1e-4` is a number)."""
    from omegaconf import _utils

    usual = _utils.get_yaml_loader()

    class Loader(_CLoader):  # type: ignore[misc, valid-type]
        """libyaml's parser with OmegaConf's rules."""

        yaml_implicit_resolvers = usual.yaml_implicit_resolvers
        yaml_constructors = usual.yaml_constructors

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            names = [key.value for key, _ in node.value if key.tag == _TEXT]
            if len(names) != len(set(names)):
                twice = next(name for name in names if names.count(name) > 1)
                raise yaml.constructor.ConstructorError(None, None, f"found duplicate key {twice}", node.start_mark)
            return super().construct_mapping(node, deep=deep)

    return Loader
