"""After a power cut the newest checkpoint whose save had returned is there."""

import ast
import posixpath
import random
import re

import faults
import test_calls

from tfreg.runs import directories

NUM_CUTS = 500 if faults.WHOLE else 60
CALLS = "mkdir,openat,write,pwrite64,fsync,rename,unlink,unlinkat,rmdir"
_LINE = re.compile(r"\d+ +(\w+)\((.*)\) += (-?\d+)")
_STRING = re.compile(r'"(?:\\x[0-9a-f]{2})*"')

pytestmark = test_calls.pytestmark


class File:
    """A file: what was written, and what of it is on the disk for certain."""

    def __init__(self):
        self.data = b""
        self.synced = None

    def cut(self, rng):
        """Returns what a power cut may leave."""
        if self.data == self.synced:
            return self.data
        part = self.data[: rng.randrange(len(self.data) + 1)]
        zeros = bytes(len(self.data))
        return rng.choice([self.synced or b"", part, zeros, self.data])


class Folder:
    """A directory: its names, those on the disk, and what was done in between."""

    def __init__(self):
        self.names = {}
        self.synced = {}
        self.pending = []

    def do(self, *changes):
        """Makes changes (name, file or None) that reach the disk together or not."""
        self.pending.append(changes)
        _change(self.names, changes)

    def sync(self):
        """Brings all names to the disk."""
        self.synced, self.pending = dict(self.names), []

    def write(self, path, rng):
        """Writes what a power cut may leave into a real directory."""
        path.mkdir()
        names = dict(self.synced)
        for changes in self.pending:
            if rng.random() < 0.5:
                _change(names, changes)
        for name, node in names.items():
            if isinstance(node, Folder):
                node.write(path / name, rng)
            else:
                (path / name).write_bytes(node.cut(rng))


def _change(names, changes):
    for name, node in changes:
        names.pop(name, None)
        if node is not None:
            names[name] = node


class Disk:
    """What a sequence of system calls makes of a directory."""

    def __init__(self, root):
        self.root = root
        self.top = Folder()

    def find(self, path):
        """Returns the file or directory at a path, None outside of the root."""
        if path == self.root:
            return self.top
        if not path.startswith(self.root + "/"):
            return None
        node = self.top
        for name in path[len(self.root) + 1 :].split("/"):
            node = node.names[name]
        return node

    def call(self, name, paths, data, arguments):
        """Does one system call that has succeeded."""
        path = paths[0]
        above, last = self.find(posixpath.dirname(path)), posixpath.basename(path)
        if above is None and path != self.root:
            return
        if name == "mkdir":
            above.do((last, Folder()))
        elif name == "openat" and "O_CREAT" in arguments:
            assert "O_TRUNC" in arguments or "O_EXCL" in arguments
            above.do((last, File()))
        elif name in ("write", "pwrite64"):
            self.find(path).data += data
        elif name == "fsync":
            node = self.find(path)
            if isinstance(node, Folder):
                node.sync()
            else:
                node.synced = node.data
        elif name == "rename":
            node = self.find(path)
            target = self.find(posixpath.dirname(paths[1]))
            new = posixpath.basename(paths[1]), node
            if target is above:
                above.do((last, None), new)
            else:
                above.do((last, None))
                target.do(new)
        elif name in ("unlink", "unlinkat", "rmdir"):
            above.do((last, None))


def read_calls(trace):
    """Gives name, paths, data and arguments of each call that succeeded."""
    for line in trace.splitlines():
        found = _LINE.match(line)
        if found is None or found[3] == "-1":
            assert "unfinished" not in line
            continue
        name, arguments = found[1], found[2]
        strings = [ast.literal_eval("b" + s) for s in _STRING.findall(arguments)]
        opened = re.match(r"(?:AT_FDCWD|\d+)<([^>]*)>", arguments)
        paths, data = [string.decode("latin-1") for string in strings], b""
        if name in ("write", "pwrite64"):
            paths, data = [], strings[0]
        if name == "fsync" or name in ("write", "pwrite64"):
            paths = [opened[1]]
        elif opened:
            paths = [posixpath.join(opened[1], paths[0])]
        yield name, [_unescape(path) for path in paths], data, arguments


def _unescape(path):
    # With -xx, strace writes the paths of descriptors in hexadecimal too.
    return re.sub(r"\\x([0-9a-f]{2})", lambda m: chr(int(m[1], 16)), path)


def cut_the_power(folder, num_cuts, synced=True, claims=False):
    """Gives what each cut left, and the last step whose save had returned."""
    directory = folder / ("logs" if claims else "checkpoints")
    directory.mkdir(parents=True)
    options = ["-xx", "-s", "1000000", "-e", f"trace={CALLS}"]
    done = faults.Traced(folder, options, (3, 4, 5, 6), synced, claims)
    assert done.status == 0, done.printed
    calls = list(read_calls(done.trace))
    rng = random.Random(0)
    for number in range(num_cuts):
        disk, returned = Disk(str(directory)), 0
        for name, paths, data, arguments in calls[: rng.randrange(len(calls) + 1)]:
            disk.call(name, paths, data, arguments)
            if name == "mkdir" and "done-" in paths[0]:
                returned = int(paths[0].rpartition("-")[2])
        left = folder / f"left{number}"
        disk.top.write(left, rng)
        yield left, returned


def test_a_power_cut_loses_no_save_that_had_returned(tmp_path):
    count = 0
    for left, returned in cut_the_power(tmp_path / "run", NUM_CUTS):
        if returned:
            step, _ = faults.restore(left)
            assert step >= returned
        count += 1
    print(f"\n{count} power cuts, {count} found the newest save")


def test_a_power_cut_loses_no_run_that_has_saved(tmp_path):
    count = 0
    for left, returned in cut_the_power(tmp_path / "run", NUM_CUTS, claims=True):
        if returned:
            run = left / "runs" / "a"
            assert directories.read_run(run).run_name == "a"
            assert faults.restore(run / "checkpoints")[0] >= returned
            count += 1
    assert count
    print(f"\n{count} power cuts after a new run's first save, {count} can go on")


def test_without_fsync_a_power_cut_would_lose_saves(tmp_path):
    num_lost = 0
    for left, returned in cut_the_power(tmp_path / "run", 60, synced=False):
        try:
            num_lost += faults.restore(left)[0] < returned
        except faults.manifests.CheckpointError:
            num_lost += returned > 0
    assert num_lost > 5
