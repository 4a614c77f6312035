"""Many pictures, one after the other: each result is written when it is ready, and made once."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from torch import Tensor

from bilevel.cli.camera import Shot, taken
from bilevel.cli.config import plain
from bilevel.cli.console import check_writable, say
from bilevel.cli.images import Reading, check_targets
from bilevel.cli.pictures import Picture, find_pictures
from bilevel.cli.progress import Bar
from bilevel.cli.record import Line, Origin, Record, file_hash, text_hash
from bilevel.cli.settings.differing import CameraSettings
from bilevel.data import Format, ImageFile, Layout, Place, places, save_results
from bilevel.ground.errors import BilevelError, InputError
from bilevel.ground.fused import repeated
from bilevel.report.words import plural

__all__ = ["FAILED", "Batch", "Done", "Files", "Made", "Work", "unanswered"]

FAILED = "failed"
"""Status of a file that nothing came of; ``error`` says why."""


@dataclass(frozen=True)
class Made:
    """What came of a file.

    ``images`` has the pages of each result by what is appended to the name of the file; ``lines``
    say of each page how that ended, and what is ``missing`` where it is not ``answered``. What is
    not ``complete`` is written, but made again next time.
    """

    images: Mapping[str, Sequence[Tensor]]
    lines: Sequence[Line]
    complete: bool = True


@dataclass(frozen=True)
class Done:
    """A picture and its lines of the record; ``fresh`` if they are of this run."""

    picture: Picture
    lines: Sequence[Line]
    fresh: bool

    @property
    def failed(self) -> bool:
        """Whether nothing came of it."""
        return self.lines[0]["status"] == FAILED


Work = Callable[[Picture, Shot], Made]
"""What is done with a file."""


@dataclass(frozen=True)
class Files:
    """Which pictures are read, how, and what becomes of the results, as the command line says.

    Args:
        images: files, folders and patterns.
        out: folder of the results.
        grey: as for :func:`~bilevel.data.load_file`.
        layout: the same.
        form: of the results; that of the file if None.
        missing: whether NaN stands for data that do not exist.
        mask: picture that is white where data exist, or a folder of such.
        camera: what the numbers are those of, if of one.
        lines: whether every line of the record is also written to standard output.
    """

    images: Sequence[Path]
    out: Path
    grey: bool | None = None
    layout: Layout | None = None
    form: Format | None = None
    missing: bool = False
    mask: str | Path | None = None
    camera: CameraSettings | None = None
    lines: bool = False

    def read(self, path: Path) -> Shot:
        """All pages of a file, as light where a camera saw it.

        Raises:
            InputError: it is none, or a broken one.
        """
        reading = Reading(self.grey, self.layout, self.missing, self.mask)
        return taken(reading.file(path), self.camera)

    def settings(self, more: Mapping[str, object]) -> str:
        """A fingerprint of all that results depend on but the file."""
        own = {
            "grey": self.grey,
            "layout": self.layout,
            "format": self.form,
            "missing": self.missing,
            "mask": None if self.mask is None else [str(self.mask), *map(file_hash, self._masks)],
            "camera": None if self.camera is None else plain(self.camera),
        }
        return text_hash({**own, **more})

    @property
    def _masks(self) -> list[Path]:
        return [] if self.mask is None else [Place.of(one).path for one in places(self.mask)]


@dataclass(frozen=True)
class Batch:
    """Pictures, and the record of the folder that their results go to.

    Args:
        files: what is read and how it is written.
        pictures: in the order of work.
        record: of the folder of results.
        settings: fingerprint of all that results depend on but the file.
        what: is being done, in one word.
        live: whether a bar may be drawn, as nothing else is.
    """

    files: Files
    pictures: Sequence[Picture]
    record: Record
    settings: str
    what: str
    live: bool = True

    @staticmethod
    def of(files: Files, settings: str, what: str, *, live: bool = True) -> Batch:
        """All pictures that are meant.

        Raises:
            InputError: there are none, or the folder cannot be written to.
        """
        record = Record(check_writable(files.out))
        found = find_pictures(files.images, files.out, owners=record.owners, made=record.made)
        return Batch(files, found, record, settings, what, live)

    @property
    def finished(self) -> int:
        """Pictures whose results are known to be there, as far as the work has come."""
        return sum(picture.name in self.record.finished for picture in self.pictures)

    def run(self, work: Work) -> Iterator[Done]:
        """Do what is not done yet; yields every picture, those done before too.

        A file that fails is named, and the others go on. Memory does not grow with their number.

        Raises:
            InputError: no result can be written; or every picture failed, and this is why.
        """
        failures: list[str] = []
        count, skipped = len(self.pictures), 0
        sizes = [_size(Place.of(picture.path).path) for picture in self.pictures]
        with Bar(self.what, sizes, live=self.live) as bar:
            for k, picture in enumerate(self.pictures):
                fresh = k - skipped
                with repeated((fresh + count - k) / (fresh + 1)):
                    done = self._done(picture, work)
                if done.failed:
                    failures.append(done.lines[0]["error"])
                    if count > 1:
                        say(f"{picture.id}: {failures[-1]}")
                skipped += not done.fresh
                bar(timed=done.fresh and not done.failed)
                yield done
        if skipped:
            say(f"{plural(skipped, 'picture')} of {count} done before, and left as they are")
        if len(failures) == count:
            more = "" if count == 1 else f"nothing came of {count} pictures, the first: "
            raise InputError(more + failures[0])

    def _done(self, picture: Picture, work: Work) -> Done:
        origin = Origin("", self.settings)
        try:
            origin = Origin(file_hash(Place.of(picture.path).path), self.settings)
            lines = self.record.done(picture, origin)
            if lines is not None:
                return self._told(Done(picture, lines, fresh=False))
            shot = self.files.read(picture.path)
            check_targets(self._stem(picture), shot.file, self.files.form, self._given)
            made = work(picture, shot)
        except (BilevelError, RuntimeError, MemoryError) as error:
            failure: Line = {"id": picture.id, "status": FAILED, "error": _reason(error)}
            lines = [self._line(picture, origin, {}, 1, 1, {**failure, "answered": False})]
            self.record.add(lines)
            return self._told(Done(picture, lines, fresh=True))
        with _undisturbed():
            return self._written(picture, shot, origin, made)

    def _written(self, picture: Picture, shot: Shot, origin: Origin, made: Made) -> Done:
        """Results, their lines in the record, and on standard output: all of it or nothing."""
        if (why := self.record.changed(picture, origin)) is not None:
            say(f"{picture.id}: made again, as {why}")
        if about := shot.about:
            say(about)
        outputs = self._save(picture, shot.file, made)
        count = len(made.lines)
        found = [
            self._line(picture, origin, outputs, k, count, line)
            for k, line in enumerate(made.lines, 1)
        ]
        if made.complete:
            self.record.add(found)
        return self._told(Done(picture, found, fresh=True))

    def _save(self, picture: Picture, file: ImageFile, made: Made) -> dict[str, str]:
        """Name and fingerprint of each result."""
        outputs: dict[str, str] = {}
        for suffix, pages in made.images.items():
            stem = self._stem(picture, suffix)
            check_targets(stem, file, self.files.form, self._given)
            stem.parent.mkdir(parents=True, exist_ok=True)
            path, word = save_results(stem, pages, file.storage, self.files.form)
            if word is not None:
                say(word)
            outputs[path.relative_to(self.record.folder).as_posix()] = file_hash(path)
        return outputs

    @cached_property
    def _given(self) -> frozenset[Path]:
        return frozenset(Place.of(picture.path).path.resolve() for picture in self.pictures)

    def _stem(self, picture: Picture, suffix: str = "") -> Path:
        return self.record.folder / f"{picture.name}{suffix}"

    @staticmethod
    def _line(
        picture: Picture,
        origin: Origin,
        outputs: Mapping[str, str],
        page: int,
        pages: int,
        found: Line,
    ) -> Line:
        return {
            "id": found["id"],
            "status": found["status"],
            "answered": found["answered"],
            "name": picture.name,
            "file": str(picture.path.resolve()),
            "page": page,
            "pages": pages,
            "outputs": dict(outputs),
            "input": origin.input,
            "settings": origin.settings,
            **found,
        }

    def _told(self, done: Done) -> Done:
        """Written to standard output, if that is wanted."""
        for line in done.lines if self.files.lines else ():
            text = json.dumps({**line, "skipped": not done.fresh}, allow_nan=False)
            sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
        return done


@contextmanager
def _undisturbed() -> Generator[None]:
    """Ctrl-C waits until what is inside is done."""
    before = signal.getsignal(signal.SIGINT)
    main = threading.current_thread() is threading.main_thread()
    if not main or before in (None, signal.SIG_IGN):
        yield
        return
    pressed: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt


def unanswered(done: Sequence[Done]) -> list[str]:
    """One line for each page that was not answered, with the reason."""
    return [
        f"{line['id']}: {line['error']}" if one.failed else line["missing"]
        for one in done
        for line in one.lines
        if not line["answered"]
    ]


def _size(path: Path) -> int:
    """Of a file [byte]; how long it may take is told from those done."""
    try:
        return max(path.stat().st_size, 1)
    except OSError:
        return 1


def _reason(error: Exception) -> str:
    """In one line.

    Raises:
        RuntimeError: it is none of the user's, nor of the memory.
    """
    if isinstance(error, BilevelError):
        return str(error)
    text = str(error).partition("\n")[0]
    if not isinstance(error, MemoryError) and "memory" not in text:
        raise error
    return f"it does not fit into the memory ({text or 'none is left'})"
