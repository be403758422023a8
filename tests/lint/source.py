"""What the lints share: which files there are, and C text with comments and literals blanked out."""
import pathlib
import re
import subprocess

TOP = pathlib.Path(__file__).resolve().parents[2]
RANKS = {"base": 0, "io": 1, "wire": 1, "sql": 1, "conf": 1, "auth": 1, "cluster": 2, "proxy": 3, "control": 4, "main": 5}

_COMMENT_OR_LITERAL = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
_COMMENT = re.compile(r'("(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\')|(//[^\n]*|/\*.*?\*/)', re.S)


def c_files():
    """Our own C sources and headers; generated files live under build/ and are not among them."""
    files = [p for top in ("src", "include") for p in (TOP / top).rglob("*.[ch]")]
    return sorted(files)


def tracked_files():
    """Files of the repository: those that git knows, and new ones that it would not ignore."""
    names = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=TOP,
                           capture_output=True, check=True).stdout.decode().split("\0")
    return sorted(TOP / name for name in set(names) if name and (TOP / name).is_file())


def layer(path):
    """The layer that a source or header belongs to: the name of its folder, or main for src/main.c."""
    parts = path.relative_to(TOP).parts
    return parts[1] if len(parts) > 2 else "main"


def relative(path):
    return str(path.relative_to(TOP))


def _blank(text):
    return re.sub(r"[^\n]", " ", text)


def without_comments_and_literals(text):
    """Keeps the line structure, so that line numbers stay true."""
    return _COMMENT_OR_LITERAL.sub(lambda m: _blank(m.group()), text)


def comment_lines(text):
    """The number of lines that hold a comment, or a part of one."""
    lines = set()
    for match in _COMMENT.finditer(text):
        if match.group(2):
            first = text.count("\n", 0, match.start())
            lines.update(range(first, first + match.group().count("\n") + 1))
    return len(lines)


def finish(name, problems, note=""):
    """Prints the verdict of one lint and ends the process."""
    for problem in problems:
        print(f"{name}: {problem}")
    print(f"{name}: {'FAILED, ' + str(len(problems)) + ' problems' if problems else 'ok'}{'; ' + note if note else ''}")
    raise SystemExit(1 if problems else 0)
