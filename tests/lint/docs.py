#!/usr/bin/env python3
"""The prose: every option of the command line is in pgweir(1), every key that the pages name exists, links lead somewhere."""
import re

from source import TOP, finish, relative

# Words in code spans of the pages that look like keys and are somebody else's.
FOREIGN = re.compile(r"^(backend_|num_init|max_pool$|primary_routing|disable_load|delay_threshold|prefer_lower|load_balance_mode"
                     r"|database_redirect|app_name_redirect|sr_check|failover_command|follow_primary|pool_hba|pool_passwd|dml_|search_path$)")


def command_line_problems():
    manual = (TOP / "docs/man/pgweir.1").read_text().replace("\\-", "-")
    for name in re.findall(r'\{ "([a-z-]+)", (?:no|required)_argument', (TOP / "src/main.c").read_text()):
        if f"--{name}" not in manual:
            yield f"docs/man/pgweir.1: --{name} is missing"


def page_problems(path, keys):
    text = path.read_text()
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        if not (path.parent / link).exists():
            yield f"{relative(path)}: {link} does not exist"
    for number, line in enumerate(text.split("\n"), 1):
        assigned = re.findall(r"^    ([a-z]+(?:_[a-z0-9]+)+) = (?!host=)", line)  # a configuration, indented
        for key in assigned + re.findall(r"`([a-z]+(?:_[a-z0-9]+)+) = [^`]*`", line):
            if key not in keys and not FOREIGN.match(key):
                yield f"{relative(path)}:{number}: there is no key {key}"


def main():
    keys = set(re.findall(r'\{ "([a-z_0-9]+)", IN\(', (TOP / "src/conf/option_table.c").read_text()))
    problems = list(command_line_problems())
    pages = sorted((TOP / "docs").glob("*.md")) + [TOP / "README.md"]
    for page in pages:
        problems += page_problems(page, keys)
    finish("docs", problems, f"{len(pages)} pages")


main()
