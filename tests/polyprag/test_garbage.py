"""A command looks for garbage seldom, in a process of its own."""

import subprocess
import sys


def test_a_command_looks_for_garbage_seldom_and_not_at_its_end() -> None:
    code = (
        "import atexit, gc\n"
        "atexit.register(lambda: print('frozen', gc.get_freeze_count() > 1000))\n"
        "from polyprag.cli import main\n"
        "main(['config', 'list'], standalone_mode=False)\n"
        "print('thresholds', *gc.get_threshold())\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "thresholds 100000 50 100" in ran.stdout
    assert ran.stdout.rstrip().endswith("frozen True")
