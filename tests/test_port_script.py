"""The command `tfreg port`: its files, its report and its exit status."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from tfreg.cli import commands
from tfreg.porting import python2

SCRIPTS = pathlib.Path(__file__).resolve().parents[1] / "scripts"
OLD = "import tensorflow as tf\nx = tf.contrib.layers.flatten(x)\n"
NEW = (
    "import tensorflow as tf\nfrom tfreg import tf1\nx = tf1.layers.flatten(x)\n"
)  # fmt: skip
MODERN = "import os\n"


@pytest.fixture
def call(capfdbinary, tmp_path, monkeypatch):
    """Returns a function: arguments -> status, stdout, stderr; in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        status = commands.run("port", ["tfreg port", *map(str, arguments)])
        out, err = capfdbinary.readouterr()
        return status, out.decode(), err.decode()

    return run


def write(**files):
    for name, source in files.items():
        path = pathlib.Path(name.replace("__", "/") + ".py")
        path.parent.mkdir(exist_ok=True, parents=True)
        data = source if isinstance(source, bytes) else source.encode()
        path.write_bytes(data)


def git(*arguments):
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, *arguments], check=True, capture_output=True)


def test_a_file_goes_to_stdout_and_stays_as_it_is(call):
    write(a=OLD)
    status, out, err = call("a.py")
    assert (status, out) == (0, NEW)
    assert err == "files: 1 read, 1 changed; places: 1 rewritten, 0 to write by hand\n"
    assert pathlib.Path("a.py").read_text() == OLD


def test_diff_shows_what_changes(call):
    write(a=OLD)
    status, out, _ = call("a.py", "--diff")
    assert status == 0
    assert out == textwrap.dedent("""\
        --- a/a.py
        +++ b/a.py
        @@ -1,2 +1,3 @@
         import tensorflow as tf
        -x = tf.contrib.layers.flatten(x)
        +from tfreg import tf1
        +x = tf1.layers.flatten(x)
    """)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.rstrip("\n"),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: f"# coding: latin-1\n# \xe9\x0c\x85\n{text}",
    ],
)
def test_the_diff_is_a_patch(change, capfdbinary, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(a=change(OLD).encode("latin-1"))
    assert commands.main(["tfreg", "port", "a.py", "--diff"]) == 0
    out, _ = capfdbinary.readouterr()
    subprocess.run(["git", "apply", "--whitespace=nowarn"], input=out, check=True)
    assert pathlib.Path("a.py").read_bytes() == change(NEW).encode("latin-1")


def test_a_folder_is_ported_into_another(call):
    write(src__a=OLD, src__deep__b=MODERN)
    status, out, err = call("src", "--out=new")
    assert (status, out) == (0, "")
    assert pathlib.Path("new/a.py").read_text() == NEW
    assert pathlib.Path("new/deep/b.py").read_text() == MODERN
    assert err.startswith("files: 2 read, 1 changed; places: 1 rewritten")


def test_a_folder_without_out_shows_its_changes_and_writes_nothing(call, tmp_path):
    write(src__a=OLD, src__b=MODERN)
    before = sorted(tmp_path.rglob("*"))
    status, out, _ = call("src")
    assert status == 0
    assert "+x = tf1.layers.flatten(x)" in out
    assert sorted(tmp_path.rglob("*")) == before


def test_out_inside_the_folder_is_not_ported_again(call):
    write(a=OLD)
    assert call(".", "--out=ported")[0] == 0
    assert call(".", "--out=ported")[0] == 0
    assert not pathlib.Path("ported/ported").exists()


@pytest.mark.parametrize("out", ["a.py", "link.py", "../{name}/a.py", "."])
def test_an_input_that_git_does_not_hold_is_not_written_over(call, tmp_path, out):
    write(a=OLD)
    os.symlink("a.py", "link.py")
    status, _, err = call("a.py", f"--out={out.format(name=tmp_path.name)}")
    assert status == 1
    assert "must be committed to git to be overwritten" in err
    assert pathlib.Path("a.py").read_text() == OLD


def test_an_input_that_git_holds_is_written_over(call):
    write(a=OLD)
    git("init", ".")
    assert call("a.py", "--out=a.py")[0] == 1  # Not yet known.
    git("add", "a.py")
    assert call("a.py", "--out=a.py")[0] == 1  # Not yet committed.
    git("commit", "-m", "x")
    pathlib.Path("a.py").write_text(OLD + "y = 1\n")
    assert call("a.py", "--out=a.py")[0] == 1  # Committed, and changed since.
    pathlib.Path("a.py").write_text(OLD)
    assert call("a.py", "--out=a.py")[0] == 0
    assert pathlib.Path("a.py").read_text() == NEW


def test_force_writes_over_an_input_and_keeps_its_permissions(call):
    write(a=OLD)
    os.chmod("a.py", 0o750)
    assert call("a.py", "--out=a.py", "--force")[0] == 0
    assert pathlib.Path("a.py").read_text() == NEW
    assert os.stat("a.py").st_mode & 0o777 == 0o750
    assert os.listdir() == ["a.py"]


def test_what_was_finished_by_hand_is_not_written_over(call):
    write(a=OLD)
    call("a.py", "--out=b.py")
    assert call("a.py", "--out=b.py")[0] == 0  # The same: nothing to write.
    pathlib.Path("b.py").write_text(NEW + "# by hand\n")
    assert call("a.py", "--out=b.py")[0] == 1
    assert pathlib.Path("b.py").read_text() == NEW + "# by hand\n"


@pytest.mark.parametrize(
    "source, sentence",
    [
        ("x = (\n", "must be Python 3, got \"'(' was never closed\" on line 1"),
        ("print 'a'\n", "must be Python 3, got \"Missing parentheses in call to"),
        (b"s = '\xff'\n", "must be UTF-8 or declare its encoding, got another one"),
        (b"# coding: nonsense\n", "must be UTF-8 or declare its encoding, got another"),
        (b"x = 1\0\n", "must be Python"),
        ("x = " + "(" * 500 + ")" * 500, "must be Python"),
    ],
)  # fmt: skip
def test_a_bad_file_is_one_sentence_and_the_rest_is_ported(call, source, sentence):
    write(src__a=source, src__b=OLD)
    status, _, err = call("src", "--out=new")
    lines = err.splitlines()
    assert status == 1
    assert lines[0].startswith("error: src/a.py ")
    assert sentence in lines[0]
    assert len(lines) == 2
    assert lines[1].startswith("files: 1 read, 1 changed, 1 not ported; places: 1")
    assert os.listdir("new") == ["b.py"]


PYTHON2 = """import tensorflow as tf
def f(d, x):
\tfor k in xrange(3):
        \tprint k, `x`
\ttry:
\t\treturn tf.log(x), d.iteritems()
\texcept ValueError, e:
\t\traise TypeError, e
"""


def test_python_2_is_told_the_flag(call):
    write(a="print 'a'\n")
    assert "on line 1: add --python2" in call("a.py")[2]


def test_python_2_becomes_python_3(call):
    write(src__ops="import tensorflow as tf\nprint 1\n", src__a=PYTHON2)
    write(src__b="from ops import *\nx = tf.log(1)\n")
    assert call("src", "--out=new", "--python2")[0] == 0
    got = pathlib.Path("new/a.py").read_text()
    assert "for k in range(3):\n                print(k, repr(x))" in got
    assert "tf.compat.v1.log(x), iter(d.items())" in got
    assert "except ValueError as e:" in got and "raise TypeError(e)" in got
    assert "tf.compat.v1.log(1)" in pathlib.Path("new/b.py").read_text()
    before = pathlib.Path("new/a.py").read_bytes()
    assert call("new", "--out=new", "--python2")[0] == 0  # Python 3 stays.
    assert pathlib.Path("new/a.py").read_bytes() == before


def test_without_fissix_it_says_what_to_install(call, monkeypatch):
    write(a="print 'a'\n")
    monkeypatch.setitem(sys.modules, "fissix", None)
    python2._convert.cache_clear()
    err = call("a.py", "--python2")[2]
    assert re.match(
        r"error: a.py must be .* fissix isn't installed: .*\[python2\]'", err
    )


def test_what_is_no_python_at_all_is_one_sentence(call):
    write(a="print 'a' a b (\n")
    err = call("a.py", "--python2")[2]
    assert err.startswith("error: a.py must be Python 2 or 3, got ")


@pytest.mark.parametrize(
    "path, sentence",
    [
        ("none.py", "error: none.py must be a readable file, got No such file"),
        ("empty", "error: empty must hold .py files, got none"),
    ],
)
def test_nothing_to_port_is_one_sentence(call, path, sentence):
    os.mkdir("empty")
    status, out, err = call(path)
    assert (status, out) == (1, "")
    assert err.startswith(sentence)


def test_an_output_that_can_not_be_written_is_one_sentence(call):
    write(a=OLD)
    status, _, err = call("a.py", "--out=a.py/b.py")
    assert status == 1
    assert err.startswith("error: ")
    assert "must be writable, got" in err


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        ([], "one file or folder must be given, got 0"),
        (["a.py", "b.py"], "one file or folder must be given, got 2"),
        (["a.py", "--nonsense"], "Unknown command line flag 'nonsense'"),
        (["a.py", "--out="], "out must have a value"),
        (["a.py", "--out=b.py", "--diff"], "out must be left out with --diff"),
        (["a.py", "--json", "--diff"], "diff must be left out with --json"),
    ],
)
def test_wrong_usage_is_one_sentence(call, arguments, sentence):
    status, out, err = call(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith(f"error: {sentence}")
    assert err.count("\n") == 1


def test_help_tells_the_flags(call):
    status, out, _ = call("--help")
    assert status == 0
    assert all(flag in out for flag in ("--out", "--diff", "--force", "--json"))


def test_what_is_left_has_its_file_and_line(call):
    write(src__a="import tensorflow as tf\n\nx = tf.placeholder(tf.float32)\n")
    status, _, err = call("src")
    assert status == 1
    note = "a.py:3: tf.placeholder: make it an argument of the function that used it"
    assert err.splitlines() == [
        "src/a.py: can't be imported before src/a.py:3 is written, 1 to write",
        "  input, 1:",
        f"src/{note}",
        "to write by hand, by kind: 1 input",
        f"next: src/{note}",
        "files: 1 read, 0 changed; places: 0 rewritten, 1 to write by hand",
    ]


def test_a_declared_encoding_and_its_line_ends_stay(call):
    source = "# coding: latin-1\r\n# \xe9\r\n" + OLD.replace("\n", "\r\n")
    write(a=source.encode("latin-1"))
    assert call("a.py", "--out=b.py")[0] == 0
    got = pathlib.Path("b.py").read_bytes().decode("latin-1")
    assert got == source[: source.index("import")] + NEW.replace("\n", "\r\n")


def test_a_byte_order_mark_stays(call):
    write(a=b"\xef\xbb\xbf" + OLD.encode())
    assert call("a.py", "--out=b.py")[0] == 0
    assert pathlib.Path("b.py").read_bytes() == b"\xef\xbb\xbf" + NEW.encode()


def start(*arguments, **options):
    command = [sys.executable, str(SCRIPTS / "port.py"), *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
    )


def test_without_libcst_it_says_what_to_install(call, monkeypatch):
    write(a=OLD)
    for name in [n for n in sys.modules if n.startswith("tfreg.porting")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "libcst", None)
    status, out, err = call("a.py")
    assert (status, out) == (2, "") and err.count("\n") == 1
    assert re.search(r"libcst must be installed.*pip install 'tfreg\[port\]'", err)


@pytest.mark.slow
def test_ctrl_c_ends_it_without_a_traceback(tmp_path):
    for number in range(300):
        (tmp_path / f"{number}.py").write_text(OLD * 20)
    process = start(tmp_path, f"--out={tmp_path / 'new'}")
    while not (tmp_path / "new" / "0.py").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.decode().startswith("error: interrupted")
    assert b"Traceback" not in err
    assert all(path.suffix == ".py" for path in (tmp_path / "new").iterdir())


def test_a_full_disk_is_one_sentence(tmp_path):
    (tmp_path / "a.py").write_text(OLD)
    with open("/dev/full", "w") as full:
        process = subprocess.run(
            [sys.executable, str(SCRIPTS / "port.py"), str(tmp_path / "a.py")],
            stdout=full,
            stderr=subprocess.PIPE,
        )
    assert process.returncode == 1
    last = process.stderr.decode().splitlines()[-1]
    assert last.startswith("error: the output must be written, got No space")
    assert b"Traceback" not in process.stderr
