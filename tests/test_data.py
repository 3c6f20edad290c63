"""Pictures in folders and in archives are one thing to learn from."""

import io
import shutil
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from nstyle import images
from nstyle.errors import NstyleError
from nstyle.feedforward import data
from nstyle.images.sources import source_of


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Five pictures, one of them damaged, in a folder, a .zip and a .tar with what Macs add."""
    root = tmp_path_factory.mktemp("places")
    photos = root / "photos"
    random = np.random.default_rng(5)
    for name in ("0.png", "2/1.png", "2a.png", "10.png"):
        images.save(photos / name, random.random((40, 44, 3)))
    (photos / "2b.jpg").write_bytes(b"nonsense")
    (photos / "notes.txt").write_text("no picture")
    (photos / "._0.png").write_bytes(b"what a Mac adds")
    for kind in ("zip", "tar"):
        shutil.make_archive(str(photos), kind, photos)
    return {"folder": photos, "zip": root / "photos.zip", "tar": root / "photos.tar"}


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_is_learnt_from_as_its_folder_is(places, kind):
    folder, archive = (data.pictures_of(str(places[name])) for name in ("folder", kind))
    assert folder.held_out == ["0.png"]
    assert folder.files == ["10.png", "2/1.png", "2a.png", "2b.jpg"]
    assert [Path(name).name for name in (*archive.held_out, *archive.files)] == [
        "0.png", "10.png", "1.png", "2a.png", "2b.jpg"
    ]  # fmt: skip
    assert archive.digest == folder.digest
    assert folder.name == "4 pictures of the folder 'photos'"
    assert archive.name == f"4 pictures of the archive 'photos.{kind}'"
    streams = [data.batches(pictures, 32, 3, seed=1) for pictures in (folder, archive)]
    for _ in range(3):
        np.testing.assert_array_equal(*(next(stream) for stream in streams))
    assert {Path(name).name for name in archive.unreadable} == {"2b.jpg"}


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_many_threads_read_one_archive(tmp_path, kind, random):
    root = tmp_path / "many"
    root.mkdir()
    for number in range(50):
        (root / f"{number:02}.png").write_bytes(random.bytes(20_000 + number))
    source = source_of(shutil.make_archive(str(root), kind, root))

    def same(name):
        with source.open(name) as file:
            return file.read() == (root / name).read_bytes()

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(same, 8 * list(source.sizes)))


def packed(content=b"a", name="a.png"):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, content)
        archive.writestr("b.png", content)
    return buffer.getvalue()


def tarred():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("a.png")
        member.size = 20_000
        archive.addfile(member, io.BytesIO(bytes(20_000)))
    return buffer.getvalue()


def protected():
    """An archive whose directory says that its second picture is encrypted."""
    content = bytearray(packed())
    content[content.rindex(b"PK\1\2") + 8] |= 1
    return bytes(content)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.zip", b"", "a.zip is damaged or no archive"),
        ("a.zip", packed()[:-30], "a.zip is damaged or no archive"),
        ("a.zip", packed(name="a.txt"), "1 pictures in .*a.zip"),
        ("a.zip", protected(), "a.zip: b.png is protected by a password; unpack it"),
        ("a.tar", b"nonsense", "a.tar is damaged or no archive"),
        ("a.tar", tarred()[:9000], "a.tar is damaged or no archive"),
        ("a.tar", tarred(), "1 pictures in .*a.tar"),
        ("a.tar.gz", b"", "a.tar.gz is compressed as a whole.*unpack it"),
        ("A.TGZ", b"", "A.TGZ is compressed as a whole.*unpack it"),
        ("a.rar", b"", r"a.rar' is neither a folder nor an archive \(.zip, .tar\)"),
    ],
)
def test_archives_that_are_of_no_use_are_refused_in_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(NstyleError, match=f"images: .*{message}") as raised:
        data.pictures_of(str(tmp_path / name))
    assert "\n" not in str(raised.value)


def test_a_damaged_member_is_passed_over_and_counted(places, tmp_path):
    """A bit of a picture's contents is turned: its checksum no longer holds."""
    content = bytearray(places["zip"].read_bytes())
    content[content.index(b"2a.png") + 500] ^= 1
    (tmp_path / "a.zip").write_bytes(content)
    pictures = data.pictures_of(str(tmp_path / "a.zip"))
    next(data.batches(pictures, 32, 8, seed=0))
    assert {Path(name).name for name in pictures.unreadable} == {"2a.png", "2b.jpg"}
