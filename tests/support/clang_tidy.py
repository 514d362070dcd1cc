"""clang-tidy over Drover's sources (not the tests), in parallel, remembering what was clean: part of `./dev lint`.

    clang_tidy.py BUILD_DIR [FILE...]      default: every .cc of ours that BUILD_DIR compiles, without tests/

BUILD_DIR must have been built (generated headers, and ninja's record of which headers each file includes). A file is
looked at again when it, a header of ours that it includes, its command or .clang-tidy changed. Prints what is found;
exit code 1 if anything is.
"""

import concurrent.futures
import hashlib
import json
import os
import pathlib
import subprocess
import sys

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
# Outside of the checkout, and by content: another clone on this machine has the same results.
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "drover-clang-tidy"
PROGRAM = "clang-tidy-19"
# The commands are g++'s, and may name warnings that clang has not; libstdc++ uses what it calls deprecated itself.
EXTRA = ["--extra-arg=-Wno-unknown-warning-option", "--extra-arg=-Wno-deprecated-declarations"]
OURS = ("common/", "services/", "cli/", "bench/")


def included_headers(build):
    """{object file: headers of ours that it includes} from ninja's deps log."""
    text = subprocess.run(["ninja", "-C", build, "-t", "deps"], capture_output=True, text=True, check=True).stdout
    deps, current = {}, None
    for line in text.splitlines():
        if line and not line.startswith(" "):
            current = deps.setdefault(line.partition(":")[0], [])
        elif line.strip() and current is not None:
            path = pathlib.Path(build, line.strip()).resolve()
            if path.is_relative_to(TOP):
                current.append(path)
    return deps


def fingerprint(entry, deps):
    digest = hashlib.sha256((TOP / ".clang-tidy").read_bytes())
    digest.update(entry["command"].replace(str(TOP), "").encode())
    for path in sorted({pathlib.Path(entry["file"]), *deps}):
        digest.update(path.read_bytes() if path.exists() else b"gone")
    return digest.hexdigest()


def main():
    build, *files = sys.argv[1:]
    build = pathlib.Path(build).resolve()
    wanted = {str((TOP / file).resolve()) for file in files}
    deps = included_headers(build)
    CACHE.mkdir(parents=True, exist_ok=True)
    work, clean = [], 0
    for entry in json.loads((build / "compile_commands.json").read_text()):
        path = pathlib.Path(entry["file"])
        if not path.is_relative_to(TOP) or not str(path.relative_to(TOP)).startswith(OURS):
            continue
        if wanted and entry["file"] not in wanted:
            continue
        output = entry["command"].partition(" -o ")[2].split(" ")[0]
        mark = CACHE / fingerprint(entry, deps.get(output, []))
        if mark.exists():
            clean += 1
        else:
            work.append((path, mark))
    print(f"   clang-tidy: {len(work)} files ({clean} unchanged since they were clean)", flush=True)

    def look(item):
        path, mark = item
        done = subprocess.run([PROGRAM, "--quiet", *EXTRA, "-p", build, path], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            mark.touch()
        return path, done

    failed = 0
    with concurrent.futures.ThreadPoolExecutor(int(os.environ.get("JOBS", os.cpu_count()))) as pool:
        for number, (path, done) in enumerate(pool.map(look, work), 1):
            if done.returncode != 0:
                failed += 1
                print(done.stdout, done.stderr, sep="", flush=True)
            print(f"   [{number}/{len(work)}] {path.relative_to(TOP)}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
