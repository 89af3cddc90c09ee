"""Fetching gzip-compressed files from mirrors: resumable, checked, and put in place whole."""

import gzip
import zlib
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import requests
from tqdm import tqdm

from mnist_lab.atomic import replacing
from mnist_lab.errors import LabError

TIMEOUT = (5, 30)  # seconds to connect, seconds without a byte
CHUNK = 8192  # bytes; what a connection that breaks off loses at most


class DownloadFailed(LabError):
    """No mirror could supply a file; the message has one line per mirror with its reason."""


class BadGzip(Exception):
    """Bytes that are not one complete gzip file; the message says what they are instead."""


def gunzip(packed: bytes) -> bytes:
    """The decompressed content of the gzip file whose bytes are ``packed``.

    Raises:
        BadGzip: if it is no gzip file, is cut off, or is corrupted.
    """
    if packed[:2] != b"\x1f\x8b":
        raise BadGzip(
            f"no gzip data (it starts with 0x{packed[:4].hex()})" if packed else "0 bytes"
        )
    try:
        return gzip.decompress(packed)
    except EOFError:
        raise BadGzip(f"a gzip stream cut off after {len(packed):,} bytes (truncated)") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise BadGzip(f"a corrupted gzip stream ({error})") from None


def fetch_files(
    digests: Mapping[str, str], folder: Path, mirrors: Sequence[str], progress: bool = False
) -> None:
    """Fetch ``<mirror>/<name>.gz`` for every name and put it, decompressed, at ``folder/<name>``.

    A broken-off download stays as ``<name>.gz.part`` and is resumed by the next call. A mirror that
    can't be reached is not asked again for the other files.

    Args:
        digests: SHA-256 of the decompressed bytes by file name.
        folder: where the files go; made if it isn't there.
        mirrors: base addresses, tried in order.
        progress: show one bar per file on stderr.

    Raises:
        DownloadFailed: if a file can't be had from any mirror.
        OSError: if ``folder`` can't be written.
    """
    reasons: dict[str, str] = {}
    unreachable: set[str] = set()
    with requests.Session() as session:
        for name, digest in digests.items():
            for mirror in mirrors:
                if mirror in unreachable:
                    continue
                try:
                    _fetch(session, mirror, folder / name, digest, progress)
                    break
                except requests.RequestException as error:
                    reasons[mirror] = f"{name}.gz: {_short_reason(error)}"
                    if not isinstance(error, requests.HTTPError):
                        unreachable.add(mirror)
                except BadGzip as error:
                    reasons[mirror] = f"{name}.gz: {error}"
            else:
                lines = [f"{mirror}  {reasons[mirror]}" for mirror in mirrors]
                raise DownloadFailed("\n".join(lines or ["no mirror was given"]))


def _fetch(
    session: requests.Session, mirror: str, target: Path, digest: str, progress: bool
) -> None:
    url = f"{mirror.rstrip('/')}/{target.name}.gz"
    part = target.with_name(f"{target.name}.gz.part")
    resumed = part.exists()
    _stream(session, url, part, progress)
    try:
        content = gunzip(part.read_bytes())
        if (found := sha256(content).hexdigest()) != digest:
            raise BadGzip(f"expected SHA-256 {digest[:8]}…, found {found[:8]}…")
    except BadGzip:
        part.unlink()
        if not resumed:
            raise
        # The bytes to blame may be the ones another mirror or an older call left behind.
        _fetch(session, mirror, target, digest, progress)
        return
    with replacing(target) as temporary:
        temporary.write_bytes(content)
    part.unlink()


def _stream(session: requests.Session, url: str, part: Path, progress: bool) -> None:
    """Bring ``part`` to its full length, going on from what it already holds."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with session.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if have and response.status_code == 416:
            return  # nothing beyond what is there: the caller's check decides whether that's all
        response.raise_for_status()
        if have and response.status_code == 206:
            if not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                part.unlink()
                return _stream(session, url, part, progress)
        else:
            have = 0  # the server ignores ranges and sends the whole file
        part.parent.mkdir(parents=True, exist_ok=True)
        length = response.headers.get("Content-Length", "")
        with (
            part.open("ab" if have else "wb") as file,
            tqdm(
                total=have + int(length) if length.isdigit() else None,
                initial=have,
                desc=part.stem,
                unit="B",
                unit_scale=True,
                disable=not progress,
            ) as bar,
        ):
            for chunk in response.iter_content(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))


def _short_reason(error: requests.RequestException) -> str:
    if isinstance(error, requests.HTTPError):
        response = error.response
        return str(error) if response is None else f"HTTP {response.status_code} {response.reason}"
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy refused"
    if isinstance(error, requests.exceptions.SSLError):
        return "no secure connection (certificate or TLS)"
    if isinstance(error, requests.ConnectTimeout):
        return f"no answer within {TIMEOUT[0]} s"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off (the next try resumes)"
    if "Read timed out" in str(error):
        return f"silent for {TIMEOUT[1]} s"
    if isinstance(error, requests.ConnectionError):
        host = urlsplit(str(error.request.url)).hostname if error.request is not None else "host"
        name_unknown = any(sign in str(error) for sign in ("NameResolution", "getaddrinfo"))
        return f"the name {host} is not known" if name_unknown else "no connection"
    return type(error).__name__
