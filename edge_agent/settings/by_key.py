"""Tells the kinds of a section apart, where one of several may stand, by the keys that are given."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

CLOSE = 3  # a key that agrees in so many letters is taken to be misspelt


class ByKey:
    """Annotates a union of sections, of which each has its own `key`: Annotated[FolderConfig | CameraConfig, ByKey()].

    A mapping is of the kind whose key it has, the first of several; else of one whose key begins like one of its keys;
    else of the first kind. In the location of an error the kind is the name of its class.
    """

    def __get_pydantic_core_schema__(self, union: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return a tagged union of the members."""
        members = get_args(union)

        def kind(data: Any) -> str:
            if isinstance(data, BaseModel):
                return type(data).__name__
            keys = [str(key).lower() for key in data] if isinstance(data, dict) else []
            named = [one for key in keys for one in members if key == one.key]
            close = [one for key in keys for one in members if key.startswith(one.key[:CLOSE])]
            return str([*named, *close, *members][0].__name__)

        schemas = {one.__name__: handler.generate_schema(one) for one in members}
        return core_schema.tagged_union_schema(schemas, kind)
