"""What `drover` gives to shells and to man: completion as bash and zsh really do it, and the manual page."""

import os
import pathlib
import subprocess
import tempfile
import unittest

import drover_env

DROVER = drover_env.BIN / "drover"


def drover(*args):
    return subprocess.run([DROVER, *args], check=True, capture_output=True, text=True).stdout


class ShellTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="drover-shell.")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        (self.folder / "jobs one.yaml").touch()
        (self.folder / "other.yaml").touch()
        self.env = {"PATH": f"{drover_env.BIN}:/usr/bin:/bin", "HOME": folder.name, "TERM": "dumb",
                    "DROVER_SERVER": f"127.0.0.1:{drover_env.free_port()}"}

    def bash(self, line):
        """What pressing the tabulator at the end of `line` offers in bash."""
        script = """
            source <(drover completion bash)
            COMP_LINE=$1 COMP_POINT=${#1}
            _drover 2>/dev/null
            printf '%s\\n' "${COMPREPLY[@]}"
        """
        done = subprocess.run(["bash", "--norc", "-c", script, "bash", line], cwd=self.folder, env=self.env, check=True,
                              capture_output=True, text=True, timeout=60)
        self.assertEqual("", done.stderr)
        return done.stdout.split("\n")[:-1] if done.stdout.strip() else []

    def test_bash_completes_commands_options_values_and_files(self):
        self.assertIn("job", self.bash("drover "))
        self.assertEqual(["export"], self.bash("drover job e"))
        self.assertEqual(["--validate-only"], self.bash("drover job create --val"))
        self.assertEqual(["json"], self.bash("drover -o j"))
        # bash cuts words at "=" and ":", and replaces only what stands behind.
        self.assertEqual(["json"], self.bash("drover job list --output=j"))
        self.assertEqual(["Active,Paused"], self.bash("drover job list --status Active,Pause"))
        self.assertEqual(["bash", "zsh"], self.bash("drover --server 127.0.0.1:7600 completion "))
        self.assertEqual(["jobs one.yaml", "other.yaml"], sorted(self.bash("drover job create -f ")))
        self.assertEqual(["other.yaml"], self.bash("drover job create --file o"))
        self.assertEqual([], self.bash("drover job get "))  # no server answers

    def test_bash_completes_at_the_prompt(self):
        """The same with bash's own machinery around it: the function is registered, and the word is replaced."""
        script = ("source <(drover completion bash)\n"
                  "complete -p drover\n")
        done = subprocess.run(["bash", "--norc", "-i"], input=script, cwd=self.folder, env=self.env, check=True,
                              capture_output=True, text=True, timeout=60)
        self.assertIn("complete -F _drover drover", done.stdout)

    def zsh_offers(self, line, expected):
        """Pressing the tabulator after `line` in zsh puts what matches the pattern on the screen."""
        script = """
            zmodload zsh/zpty
            zpty shell zsh -f -i
            zpty -w shell 'PS1=; autoload -Uz compinit; compinit -u -D; source <(drover completion zsh); print rea""dy'
            zpty -r -m shell out $'*ready\\r\\n*'
            zpty -w -n shell "$1"$'\\t'
            zpty -r -m shell out "*$2*" && print -r -- FOUND
        """
        done = subprocess.run(["timeout", "20", "zsh", "-f", "-c", script, "zsh", line, expected], cwd=self.folder,
                              env=self.env, capture_output=True, text=True, check=False)
        self.assertIn("FOUND", done.stdout, (line, expected, done))

    def test_zsh_completes_commands_options_values_and_files(self):
        self.zsh_offers("drover job exp", "export ")
        self.zsh_offers("drover job ", "export*Print a job as a file")
        self.zsh_offers("drover job create --val", "--validate-only ")
        self.zsh_offers("drover -o j", "json ")
        self.zsh_offers("drover job list --output=j", "--output=json")
        self.zsh_offers("drover job create -f oth", "other.yaml")


class ManualPageTest(unittest.TestCase):
    def test_is_the_one_that_the_program_prints(self):
        page = (drover_env.TOP / "docs/man/drover.1").read_text()
        self.assertEqual(drover("man"), page, "docs/man/drover.1 is old: drover man >docs/man/drover.1")

    def test_is_clean(self):
        page = drover_env.TOP / "docs/man/drover.1"
        lint = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", page], capture_output=True, text=True, check=False)
        # The page has no date: it would be that of its last change, which nobody would keep.
        wrong = [line for line in lint.stdout.splitlines() if "missing date" not in line]
        self.assertEqual([], wrong)
        shown = subprocess.run(["man", "--warnings", "-l", page], capture_output=True, text=True, check=True,
                               env={**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "100", "MAN_KEEP_FORMATTING": ""})
        self.assertEqual("", shown.stderr)
        for text in ("drover job create [option ...]", "--failure-minimum", "source <(drover completion bash)"):
            self.assertIn(text, shown.stdout)


class SchemaTest(unittest.TestCase):
    def test_is_the_one_that_the_program_prints(self):
        schema = (drover_env.TOP / "docs/schema/job.schema.json").read_text()
        self.assertEqual(drover("schema"), schema,
                         "docs/schema/job.schema.json is old: drover schema >docs/schema/job.schema.json")


if __name__ == "__main__":
    unittest.main()
