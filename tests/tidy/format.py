"""All C++ looks as clang-format leaves it. The cure: clang-format -i."""

import subprocess

import tree


def formatted(repository):
    files = [str(path) for path in repository.code()]
    done = subprocess.run(["clang-format", "--dry-run", *files], cwd=repository.root,
                          capture_output=True, text=True, check=True)
    lines = [line for line in done.stderr.splitlines() if ": warning:" in line]
    faulty = {line.split(":")[0]: line for line in reversed(lines)}
    for path in sorted(faulty):
        yield f"{faulty[path]} (run: clang-format -i {path})"


if __name__ == "__main__":
    tree.run(formatted)
