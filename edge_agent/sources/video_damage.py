"""Tells which frames of a video file are damaged, beside OpenCV, which conceals it (extra `video`).

OpenCV's FFmpeg fills holes with pixels of other frames and says nothing. PyAV decodes the same file and has FFmpeg report what
it finds. A frame that was found damaged spoils all that are predicted from it, up to the next key frame. What FFmpeg decodes
without an error although it is wrong stays unknown; of H.264 and H.265, zeros are found where the standard allows none.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av import VideoFrame, VideoStream
    from av.container import InputContainer

EXTRA = "pip install 'edge-agent[video]'"
MISSING = f"holes in a video of H.264 or MPEG-4 are not noticed: {EXTRA}"

_NEVER_IN_A_UNIT = (b"\0\0\0", b"\0\0\1", b"\0\0\2")  # an encoder puts a 3 before the third byte
_ALIKE_MS = 0.5  # of one frame, by two decoders
_STRICT = {"err_detect": "crccheck+bitstream+buffer+explode"}


def is_installed() -> bool:
    """Return whether the extra is."""
    return find_spec("av") is not None


class VideoDamage:
    """Which frames of one file are damaged; ask in the order of the file. Use from one thread."""

    def __init__(self, path: str) -> None:
        """Open the file; one that cannot be opened has nothing to say."""
        self._bad: set[int] = set()  # frames, by what is at them in half milliseconds
        self._good: set[int] = set()
        self._found = False  # any damage so far
        self._until_ms = float("-inf")
        self._frames = self._decode(path)

    def is_at(self, time_ms: float) -> bool:
        """Return whether the frame at this time is damaged. time_ms: from the first frame on, as OpenCV says it."""
        while self._until_ms <= time_ms + _ALIKE_MS:
            shown = next(self._frames, None)
            if shown is None:
                break
            self._until_ms = max(self._until_ms, shown)
        place = round(time_ms / _ALIKE_MS)
        near = {place - 1, place, place + 1}
        return bool(near & self._bad) or (self._found and not near & self._good)

    def close(self) -> None:
        """Close the file."""
        self._frames.close()

    def _decode(self, path: str) -> Generator[float, None, None]:
        """Yield the time of each frame that is shown, in ms, in order; note which are damaged before they are."""
        import av

        av.logging.set_level(av.logging.PANIC)
        try:
            with av.open(path) as container:
                stream = container.streams.video[0]
                start, unit_ms = stream.start_time or 0, float(stream.time_base or 0) * 1e3
                for frame, pts, is_damaged in checked(container, stream):
                    time_ms = ((pts or 0) - start) * unit_ms
                    place = round(time_ms / _ALIKE_MS)
                    if is_damaged:
                        self._found = True
                        self._bad.add(place)
                    elif frame:
                        self._good.add(place)
                    if frame:
                        yield time_ms
        except (av.FFmpegError, IndexError) as error:
            self._found = True
            logging.getLogger(__name__).debug("%s: %s", path, error)


def checked(
    container: InputContainer, stream: VideoStream, was_lost: Callable[[], bool] = lambda: False
) -> Generator[tuple[VideoFrame | None, int | None, bool], None, None]:
    """Decode a stream; of each frame yield (frame, its time in units of the stream, whether it is damaged).

    The frame is None where it could not be decoded.

    Args:
        container: the open file or address.
        stream: one of its streams.
        was_lost: whether data are known to be lost since the last call.

    Raises:
        av.FFmpegError: it cannot be read on.
    """
    import av

    stream.codec_context.options = _STRICT
    stream.codec_context.thread_count = 1  # as with more, errors are reported later
    length_size = _length_size(stream)
    bad: set[int | None] = set()
    spoilt, spoilt_before, key = False, False, None
    for packet in container.demux(stream):
        empty = packet.size == 0
        if packet.is_keyframe and not empty:
            spoilt, spoilt_before, key = False, spoilt, packet.pts
        spoilt |= was_lost() or (not empty and (packet.is_corrupt or _has_hole(bytes(packet), length_size)))
        leads = key is not None and packet.pts is not None and packet.pts < key  # shown before the key frame
        try:
            frames, failed = packet.decode(), False
        except av.FFmpegError:
            frames, failed = [], not empty
        spoilt |= failed or any(frame.is_corrupt for frame in frames)
        if not empty and (spoilt or (leads and spoilt_before)):
            bad.add(packet.pts)
        if failed:
            yield None, packet.pts, True
        for frame in frames:
            yield frame, frame.pts, frame.is_corrupt or frame.pts in bad
            bad.discard(frame.pts)


def _length_size(stream: VideoStream) -> int | None:
    """Return of how many bytes the length before each unit of H.264 or H.265 is; None if there is none."""
    extra = stream.codec_context.extradata or b""
    if stream.codec_context.name == "h264" and len(extra) > 4 and extra[0] == 1:
        return (extra[4] & 3) + 1
    if stream.codec_context.name == "hevc" and len(extra) > 21 and extra[0] == 1:
        return (extra[21] & 3) + 1
    return None


def _has_hole(data: bytes, length_size: int | None) -> bool:
    """Return whether units of a packet hold what they must not, or do not fill it. length_size: of their lengths."""
    if length_size is None:
        return False
    at = 0
    while at + length_size <= len(data):
        begin = at + length_size
        at = begin + int.from_bytes(data[at:begin], "big")
        unit = data[begin:at].rstrip(b"\0")  # words of zeros may fill it up
        if at > len(data) or any(pattern in unit for pattern in _NEVER_IN_A_UNIT):
            return True
    return at != len(data)
