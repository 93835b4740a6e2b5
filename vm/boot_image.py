"""What qemu boots: vmlinuz and an initramfs, both made from a stock linux-image package.

The initramfs holds a static busybox, the few modules that the guest needs (in load order) and
`init`. Debian's kernels have ext4, virtio and binfmt_misc as modules.
"""

from __future__ import annotations

import io
import lzma
import os
import subprocess
import tarfile
from pathlib import Path

from vm.packages import fetch_busybox, fetch_kernel

HERE = Path(__file__).resolve().parent
# What the root disk needs, then what certexec and its tests use. "?" in front: where it exists.
MODULES = (
    "virtio_pci", "virtio_blk", "?crc32c_generic", "?crc32c_cryptoapi", "ext4",
    "binfmt_misc", "overlay", "loop", "fuse", "af_packet",
)
# The parts of a kernel package that are kept; the rest is 400 MB of drivers.
UNPACKED = (
    "/boot/vmlinuz-", "/boot/config-", "/modules.builtin", "/kernel/arch/", "/kernel/crypto/",
    "/kernel/fs/", "/kernel/lib/", "/kernel/net/packet/", "/kernel/drivers/block/",
    "/kernel/drivers/net/dummy", "/kernel/drivers/net/tun", "/kernel/drivers/net/veth",
    "/kernel/drivers/virtio/",
)


class Kernel:
    """A stock kernel, unpacked: its release (`uname -r`), vmlinuz and modules."""

    def __init__(self, series: str, release: str, vmlinuz: Path, modules: Path) -> None:
        self.series = series
        self.release = release
        self.vmlinuz = vmlinuz
        self.modules = modules


def _unpack(deb: Path, into: Path, wanted: tuple[str, ...]) -> None:
    """Extract the members of a .deb whose path holds one of `wanted`."""
    into.mkdir(parents=True, exist_ok=True)
    command = ["dpkg-deb", "--fsys-tarfile", str(deb)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE) as dpkg,
        tarfile.open(fileobj=dpkg.stdout, mode="r|") as archive,
    ):
        for member in archive:
            if member.isfile() and any(part in member.name for part in wanted):
                target = into / member.name.removeprefix("./")
                target.parent.mkdir(parents=True, exist_ok=True)
                source = archive.extractfile(member)
                target.write_bytes(source.read() if source else b"")
    if dpkg.returncode != 0:
        raise RuntimeError(f"dpkg-deb could not read {deb.name}")


def kernel(series: str, cache: Path) -> Kernel:
    """Return the stock kernel of `series`, fetched and unpacked under `cache` when needed."""
    deb = fetch_kernel(series, cache / "debs")
    tree = cache / "kernels" / deb.stem
    if not (tree / "complete").exists():
        _unpack(deb, tree, UNPACKED)
        (tree / "complete").touch()
    vmlinuz = next((tree / "boot").glob("vmlinuz-*"))
    release = vmlinuz.name.removeprefix("vmlinuz-")
    modules = next(path for path in tree.glob("**/lib/modules/*") if path.name == release)
    return Kernel(series, release, vmlinuz, modules)


def _module_bytes(path: Path) -> bytes:
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data


def _depends(module: bytes) -> list[str]:
    """Return the modules that the .modinfo section of `module` asks for."""
    for entry in module.split(b"\0"):
        if entry.startswith(b"depends="):
            return [name.decode() for name in entry[len(b"depends=") :].split(b",") if name]
    return []


def _plain(name: str) -> str:
    return name.split(".ko")[0].replace("-", "_")


def load_order(found: Kernel, wanted: tuple[str, ...]) -> list[tuple[str, bytes]]:
    """Return (name, bytes) of `wanted` and everything below them, dependencies first."""
    files = {_plain(path.name): path for path in found.modules.rglob("*.ko*")}
    builtin = {
        _plain(Path(line).name)
        for line in (found.modules / "modules.builtin").read_text().splitlines()
    }
    done: dict[str, bytes] = {}

    def add(name: str, optional: bool) -> None:
        plain = _plain(name)
        if plain in done or plain in builtin:
            return
        if plain not in files:
            if optional:
                return
            raise RuntimeError(f"kernel {found.release} has no module {name}")
        data = _module_bytes(files[plain])
        for below in _depends(data):
            add(below, False)
        done[plain] = data

    for name in wanted:
        add(name.lstrip("?"), name.startswith("?"))
    return list(done.items())


def _cpio(entries: list[tuple[str, int, bytes]]) -> bytes:
    """Return a newc cpio archive of (path, mode, content), everything owned by root."""
    out = io.BytesIO()
    for inode, (name, mode, content) in enumerate([*entries, ("TRAILER!!!", 0, b"")], 1):
        raw = name.encode() + b"\0"
        fields = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(raw), 0)
        out.write(b"070701" + b"".join(b"%08X" % value for value in fields) + raw)
        out.write(b"\0" * (-out.tell() % 4) + content)
        out.write(b"\0" * (-out.tell() % 4))
    return out.getvalue()


def busybox(cache: Path) -> Path:
    """Return the static busybox, fetched and unpacked under `cache` when it is not yet."""
    tree = cache / "busybox"
    if not (tree / "complete").exists():
        _unpack(fetch_busybox(cache / "debs"), tree, ("/bin/busybox",))
        (tree / "complete").touch()
    found = next(path for path in tree.rglob("busybox") if path.is_file())
    found.chmod(0o755)
    return found


def initramfs(found: Kernel, extra_modules: list[str], cache: Path, to: Path) -> None:
    """Write the first stage of the guest for this kernel to `to`."""
    modules = load_order(found, (*MODULES, *extra_modules))
    order = "".join(f"{name}.ko\n" for name, _ in modules)
    entries = [(name, 0o040755, b"") for name in ("bin", "dev", "modules")]
    entries += [
        ("bin/busybox", 0o100755, busybox(cache).read_bytes()),
        ("init", 0o100755, (HERE / "init").read_bytes()),
        ("modules/order", 0o100644, order.encode()),
    ]
    entries += [(f"modules/{name}.ko", 0o100644, data) for name, data in modules]
    temporary = to.with_suffix(f".{os.getpid()}")
    temporary.write_bytes(_cpio(entries))
    temporary.rename(to)
