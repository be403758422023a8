#!/usr/bin/env python3
"""Sizes: files up to 1200 lines, functions up to 100, their median up to 15 and their 90th percentile up to 50."""
import re
import statistics

from source import c_files, comment_lines, finish, relative, without_comments_and_literals

FILE_LINES, FUNCTION_LINES, MEDIAN_LINES, P90_LINES = 1200, 100, 15, 50
PREPROCESSOR = re.compile(r"^[ \t]*#(?:\\\n|[^\n])*", re.M)
NAME = re.compile(r"(\w+)\s*\(")


def blank_preprocessor(text):
    return PREPROCESSOR.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)


def functions(text):
    """(name, first line, number of lines) of each function: a brace at file level that follows a parenthesis."""
    text = blank_preprocessor(without_comments_and_literals(text))
    depth, head_start, start, is_function, name = 0, 0, 0, False, ""
    for match in re.finditer(r"[{};]", text):
        char, at = match.group(), match.start()
        if char == "{":
            if depth == 0:
                head = text[head_start:at]
                is_function = head.rstrip().endswith(")") and "=" not in head
                called = NAME.search(head)
                name = called.group(1) if called else "?"
                start = head_start + len(head) - len(head.lstrip())
            depth += 1
        elif char == "}":
            depth -= 1
            if depth == 0:
                if is_function:
                    first = text.count("\n", 0, start) + 1
                    yield name, first, text.count("\n", 0, at) + 1 - first + 1
                head_start = at + 1
        elif depth == 0:
            head_start = at + 1


def main():
    problems, lengths, lines, comments, checks = [], [], 0, 0, 0
    for path in c_files():
        text = path.read_text()
        count = text.count("\n")
        lines, comments = lines + count, comments + comment_lines(text)
        checks += len(re.findall(r"\bD?CHECK\(", without_comments_and_literals(text)))
        if count > FILE_LINES:
            problems.append(f"{relative(path)}: {count} lines, at most {FILE_LINES}")
        for name, first, length in functions(text):
            lengths.append(length)
            if length > FUNCTION_LINES:
                problems.append(f"{relative(path)}:{first}: {name} has {length} lines, at most {FUNCTION_LINES}")
    if not lengths:
        finish("functions", problems, "no functions yet")
    lengths.sort()
    median, p90 = statistics.median(lengths), lengths[int(len(lengths) * 0.9)]
    if median > MEDIAN_LINES:
        problems.append(f"the median function has {median} lines, at most {MEDIAN_LINES}")
    if p90 > P90_LINES:
        problems.append(f"one function in ten has {p90} lines or more, at most {P90_LINES}")
    finish("functions", problems,
           f"{lines} lines, {len(lengths)} functions: median {median:g}, p90 {p90}, longest {lengths[-1]}; "
           f"comments {100 * comments / lines:.0f}%, checks {1000 * checks / lines:.1f} per thousand lines")


main()
