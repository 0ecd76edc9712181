"""A request as the messages of a chat template, and the text that the template makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from .._core import GoldenError
from ..requests import Request

#: Where a picture is in a text.
TAG = "<image>"

#: What a template that takes texts only makes of a list: the list as Python writes it.
_WRITTEN = "'type': 'text'"

Messages = list[dict[str, Any]]


class Conversation:
    """What is asked, with the pictures in their places."""

    def __init__(self, request: Request, pictures: Sequence[Any], takes_pictures: bool) -> None:
        """
        # Errors
        `GoldenError` if there are tags of pictures, and not one for each picture.
        """
        questions = [*(user for user, _ in request.history), request.prompt]
        # Without pictures to take, a tag is a text like any other.
        parts = [question.split(TAG) if takes_pictures else [question] for question in questions]
        tags = sum(len(texts) - 1 for texts in parts)
        if tags not in (0, len(pictures)):
            expected = f"expected as many tags `{TAG}` as pictures ({len(pictures)}), or none"
            raise GoldenError(f"prompt: {expected}, found {tags}")
        if tags == 0:
            parts[-1] = ["" for _ in pictures] + parts[-1]
        self._request = request
        self._pictures = pictures
        #: The texts between the pictures, for each question.
        self._parts = parts

    @property
    def question(self) -> str:
        """The last text of the question, which a template cannot leave out."""
        return self._parts[-1][-1].strip()

    def forms(self, image_token: str | None) -> Iterator[tuple[Messages, bool]]:
        """The messages in each form that templates take, and whether the pictures are in them.

        Contents are lists of parts; or those of the questions alone are; or all are texts, in which a picture is `image_token`.
        """
        yield self._messages(True, True), True
        yield self._messages(True, False), True
        if not self._pictures or image_token is not None:
            yield self._messages(False, False, image_token or ""), False

    def text(self, image_token: str) -> str:
        """The question as one text."""
        return _joined(self._parts[-1], image_token)

    def _messages(self, lists: bool, all_lists: bool, image_token: str = "") -> Messages:
        pictures = iter(self._pictures)

        def said(text: str) -> Any:
            return [{"type": "text", "text": text}] if all_lists else text

        def asked(texts: list[str]) -> Any:
            if not lists:
                return _joined(texts, image_token)
            content: list[dict[str, Any]] = []
            for index, text in enumerate(texts):
                if index > 0:
                    content.append({"type": "image", "image": next(pictures)})
                if text:
                    content.append({"type": "text", "text": text})
            return content or [{"type": "text", "text": ""}]

        request = self._request
        messages = [] if request.system is None else [{"role": "system", "content": said(request.system)}]
        for (_, answer), texts in zip(request.history, self._parts[:-1], strict=True):
            messages += [{"role": "user", "content": asked(texts)}, {"role": "assistant", "content": said(answer)}]
        return [*messages, {"role": "user", "content": asked(self._parts[-1])}]


def render(
    asked: Any, template: str | None, conversation: Conversation, system: str | None, image_token: str | None
) -> tuple[Messages, str, bool]:
    """The messages in the form that a template takes, the text that it makes of them, and whether the pictures are in them.

    `asked` is the processor or tokenizer whose `apply_chat_template` is used.

    # Errors
    `GoldenError` if the template refuses the messages in every form, or leaves the question or the system prompt out.
    """
    found = None
    for messages, has_pictures in conversation.forms(image_token):
        try:
            text = asked.apply_chat_template(
                messages, chat_template=template, tokenize=False, add_generation_prompt=True
            )
        # A template can raise anything, since it can do anything to what it is given.
        except Exception as error:
            found = found or str(error)
            continue
        left_out = next((said for said in (conversation.question, (system or "").strip()) if said not in text), None)
        if left_out is None and text.count(_WRITTEN) <= conversation.question.count(_WRITTEN):
            return messages, text, has_pictures
        if left_out is not None:
            found = f"a text without `{left_out}`"
    raise GoldenError(f"chat template: expected a text with what was asked, found: {found or 'none'}")


def _joined(texts: list[str], image_token: str) -> str:
    """Texts with the token of a picture between them. Pictures that have no place of their own stand in lines before the text."""
    before = 0
    while before < len(texts) - 1 and not texts[before]:
        before += 1
    rest = image_token.join(texts[before:])
    return f"{image_token}\n" * before + rest
