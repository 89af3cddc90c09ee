"""Fetching gzip-compressed files from mirrors: resumable, checked, and put in place whole."""

import gzip
import time
import zlib
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

import requests
from tqdm import tqdm

from mnist_lab.files import MAX_BYTES, LabError, replacing

TIMEOUT = (5, 30)  # seconds to connect, seconds without a byte
DEADLINE = 1800  # seconds that a file may take in all
CHUNK = 8192  # bytes; what a connection that breaks off loses at most
DAMAGED = (gzip.BadGzipFile, EOFError, zlib.error)  # what reading a bad .gz raises
REASONS = {  # text in an error, and what it means to a user; the first one found is used
    "ProxyError": "the proxy refused",
    "SSLError": "no secure connection (certificate or TLS)",
    "ConnectTimeout": f"no answer within {TIMEOUT[0]} s",
    "Read timed out": f"silent for {TIMEOUT[1]} s",
    "not all of it": f"not all of it within {DEADLINE} s (the next try resumes)",
    "Failed to resolve": "the host's name is not known",
    "ChunkedEncodingError": "the connection broke off (the next try resumes)",
    "ConnectionError": "no connection",
}


class NoMirror(LabError):
    """No mirror gave a file; a line for each says why."""


def fetch_files(
    digests: Mapping[str, str], folder: Path, mirrors: Sequence[str], progress: bool
) -> None:
    """Put ``<mirror>/<name>.gz``, decompressed, at ``folder/<name>`` for each name of ``digests``.

    What broke off stays as ``<name>.gz.part`` for the next call to resume. A mirror that can't be
    reached is not asked again.

    Raises:
        NoMirror: if none gives a file.
        LabError: if the folder cannot be written.
    """
    reasons = {}
    reachable = list(mirrors)
    for name, digest in digests.items():
        for mirror in list(reachable):
            try:
                _fetch(f"{mirror.rstrip('/')}/{name}.gz", folder / name, digest, progress)
                break
            except (*DAMAGED, requests.HTTPError) as error:  # this file: the mirror may have others
                reason = str(error).partition(" for url")[0]
            except requests.RequestException as error:  # the mirror
                meanings = (REASONS[sign] for sign in REASONS if sign in repr(error))
                reason = next(meanings, type(error).__name__)
                reachable.remove(mirror)
            reasons[mirror] = f"{mirror}  {name}.gz: {reason}"
        else:
            raise NoMirror("\n".join(reasons.values()) or "no mirror was given")


def _fetch(url: str, target: Path, digest: str, progress: bool) -> None:
    part = target.with_name(f"{target.name}.gz.part")
    resumed = part.exists()
    try:
        _stream(url, part, progress)
        with gzip.open(part) as file:
            content = file.read(MAX_BYTES + 1)
        if (found := sha256(content).hexdigest()) != digest:
            raise gzip.BadGzipFile(f"expected SHA-256 {digest[:8]}…, found {found[:8]}…")
    except DAMAGED:
        part.unlink()
        if not resumed:
            raise
        # Bytes left by another mirror or an older call may be to blame. The part is gone now, so
        # that the second try is the last.
        return _fetch(url, target, digest, progress)
    with replacing(target) as temporary:
        temporary.write_bytes(content)
    part.unlink()


def _stream(url: str, part: Path, progress: bool) -> None:
    """Bring ``part`` to its full length, going on from what it already holds."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"}  # the .gz as it lies there, so that ranges fit it
    if have:
        headers["Range"] = f"bytes={have}-"
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if have and response.status_code == 416:
            return  # nothing beyond what is there: the caller's check decides whether that's all
        response.raise_for_status()
        if response.status_code != 206:
            have = 0  # the server ignores ranges and sends the whole file
        part.parent.mkdir(parents=True, exist_ok=True)
        length = response.headers.get("Content-Length", "")
        bar = tqdm(desc=part.stem, initial=have, unit="B", unit_scale=True, disable=not progress)
        end = time.monotonic() + DEADLINE
        bar.total = have + int(length) if length.isdigit() else None
        with part.open("ab" if have else "wb") as file, bar:
            for chunk in response.iter_content(CHUNK):
                bar.update(file.write(chunk))
                if file.tell() > MAX_BYTES:
                    raise gzip.BadGzipFile(f"more than {MAX_BYTES:,} bytes")
                if time.monotonic() > end:
                    raise requests.Timeout(f"not all of it within {DEADLINE} s")
