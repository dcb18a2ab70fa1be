"""Serializers: they convert between the items of a program and the bytes of messages."""

from __future__ import annotations

import json
from typing import Any, Final, Generic, Protocol, Self, TypeVar

from queuelet.client.text import check_text

Item = TypeVar("Item")


class Serializer(Protocol[Item]):
    """Converts items to bytes and back.

    An exception from `dump` is raised by the put. An exception from `load` dead-letters the message.
    """

    def dump(self, item: Item, /) -> bytes:
        """Return the payload for an item.

        Args:
            item: The item to put.

        Returns:
            The bytes of the message.
        """
        ...

    def load(self, payload: bytes, /) -> Item:
        """Return the item for a payload.

        Args:
            payload: The bytes of a message.

        Returns:
            The item, as a consumer gets it.

        Raises:
            Exception: Any exception means that the payload cannot be read.
        """
        ...


class BytesSerializer:
    """Items are bytes, which are sent unchanged."""

    def dump(self, item: bytes, /) -> bytes:
        """Return the item."""
        return item

    def load(self, payload: bytes, /) -> bytes:
        """Return the payload."""
        return payload


class TextSerializer:
    """Items are strings, encoded in UTF-8."""

    def dump(self, item: str, /) -> bytes:
        """Return the text in UTF-8. Raise `InvalidArgument` if it has lone surrogates."""
        check_text("item", item)
        return item.encode()

    def load(self, payload: bytes, /) -> str:
        """Return the text. Raise `UnicodeDecodeError` if the payload is not UTF-8."""
        return payload.decode()


class JsonSerializer:
    """Items are JSON values: dicts, lists, strings, numbers, booleans and None."""

    def dump(self, item: Any, /) -> bytes:  # noqa: ANN401  # JSON has no narrower type in Python
        """Return the item as JSON without spaces. Raise `TypeError` or `ValueError` if JSON cannot express it."""
        text = json.dumps(item, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        # JSON has an escape for lone surrogates, as in file names that are not UTF-8. They only occur in strings.
        return text.encode(errors="backslashreplace")

    def load(self, payload: bytes, /) -> Any:  # noqa: ANN401  # JSON has no narrower type in Python
        """Return the value. Raise `ValueError` if the payload is not JSON."""
        return json.loads(payload)


class _Model(Protocol):
    """The two methods of pydantic's models that are needed here. Other classes may have them too."""

    @classmethod
    def model_validate_json(cls, json_data: bytes, /) -> Self:
        """Return the model that the JSON describes, or raise `ValueError`."""
        ...

    def model_dump_json(self) -> str:
        """Return the model as JSON."""
        ...


Model = TypeVar("Model", bound=_Model)


class ModelSerializer(Generic[Model]):
    """Items are pydantic models, or other objects with the same two methods for JSON: `ModelSerializer(Order)`.

    Args:
        model: The class of the items.
    """

    def __init__(self, model: type[Model]) -> None:
        self._model = model

    def dump(self, item: Model, /) -> bytes:
        """Return a model as JSON.

        Args:
            item: The model.

        Returns:
            The JSON in UTF-8.
        """
        return item.model_dump_json().encode()

    def load(self, payload: bytes, /) -> Model:
        """Return the model that a JSON text describes.

        Args:
            payload: The JSON in UTF-8.

        Returns:
            The model.

        Raises:
            ValueError: The JSON is not valid for the model; pydantic raises a subclass.
        """
        return self._model.model_validate_json(payload)


BYTES: Final = BytesSerializer()
TEXT: Final = TextSerializer()
JSON: Final = JsonSerializer()
