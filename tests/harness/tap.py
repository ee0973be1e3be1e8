"""Run the unittest cases of a script and print TAP, as the C tests do."""

import sys
import time
import traceback
import unittest

LOG_LINES = 20  # of each server, when a test fails


def _last_words(case):
    """The ends of the logs of the servers that the test case, or its class, has as attributes."""
    for name, value in {**vars(type(case)), **vars(case)}.items():
        tail = getattr(value, "tail", None)
        if callable(tail) and not isinstance(value, type):
            yield f"the end of what {name} logged:"
            yield from (f"  {line[:300]}" for line in tail().splitlines()[-LOG_LINES:])


class _Result(unittest.TestResult):
    def __init__(self):
        super().__init__()
        self.number = 0
        self.good = True
        self._began = 0.0

    def startTest(self, test):
        super().startTest(test)
        self._began = time.monotonic()
        print(f"# {test.id()}", flush=True)

    def _line(self, verdict, test, note=""):
        self.number += 1
        name = test.shortDescription() or str(test)
        print(f"{verdict} {self.number} {name}{note}", flush=True)

    def addSuccess(self, test):
        print(f"# {time.monotonic() - self._began:.2f} s", flush=True)
        self._line("ok", test)

    def addSkip(self, test, reason):
        self._line("ok", test, f" # SKIP {reason}")

    def _bad(self, test, error):
        self.good = False
        # Before the verdict, as GLib's tests do: what stands between two verdicts is of the later.
        for line in _last_words(getattr(test, "test_case", test)):
            print(f"#   {line}", flush=True)
        for line in "".join(traceback.format_exception(*error)).rstrip().splitlines():
            print(f"# {line}", flush=True)
        self._line("not ok", test)

    addError = _bad
    addFailure = _bad

    def addSubTest(self, test, subtest, error):
        # unittest tells of a test with a bad part by this alone.
        if error is not None:
            self._bad(subtest, error)


def main():
    """Call at the end of a test script."""
    suite = unittest.defaultTestLoader.loadTestsFromModule(sys.modules["__main__"])
    result = _Result()
    suite.run(result)
    print(f"1..{result.number}", flush=True)
    sys.exit(0 if result.good and result.number else 1)
