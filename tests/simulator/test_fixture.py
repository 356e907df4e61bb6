"""The fixtures for users' own tests, in suites as users write them: each runs in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

import pytest

pytest_plugins = ["pytester"]

PLUGIN = "tensorix_simulator.pytest_plugin"
ASK = """
import httpx

def ask(url, key="sk-any", **parameters):
    body = {"model": "z-ai/glm-5", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3, **parameters}
    headers = {"authorization": f"Bearer {key}"}
    return httpx.post(f"{url}/chat/completions", json=body, headers=headers, trust_env=False)
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """An empty suite with strict markers, and warnings as errors."""
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    pytester.makeini("[pytest]\naddopts = --strict-markers -p no:cacheprovider\nfilterwarnings = error\n")
    pytester.makepyfile(asking=ASK)
    pytester.syspathinsert()
    return pytester


def run(suite: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    # As the entry point does where the toolkit is installed, also where the tests run from a tree that is not.
    registered = any(entry.value == PLUGIN for entry in entry_points(group="pytest11"))
    plugins = ["-p", "no:locust", *([] if registered else ["-p", PLUGIN])]
    return suite.runpytest_subprocess(*plugins, *arguments, timeout=60)


def test_a_simulator_for_a_test(suite: pytest.Pytester) -> None:
    """It answers, it is the test's own, and it ends with the test, also where the test fails."""
    suite.makepyfile(
        """
        import pathlib
        from asking import ask

        pids = []

        def test_one(tensorix_simulator):
            pids.append(tensorix_simulator.pid)
            answer = ask(tensorix_simulator.base_url)
            assert answer.status_code == 200
            assert answer.headers["x-ratelimit-api_key-remaining-requests"] == "59"
            assert [line["status"] for line in tensorix_simulator.truth("end")] == [200]

        def test_another_is_fresh(tensorix_simulator):
            pids.append(tensorix_simulator.pid)
            assert ask(tensorix_simulator.base_url).headers["x-ratelimit-api_key-remaining-requests"] == "59"
            assert False, "on purpose"

        def test_both_are_gone():
            assert len(set(pids)) == 2
            assert not [pid for pid in pids if pathlib.Path(f"/proc/{pid}").exists()]
        """
    )
    result = run(suite)
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*on purpose*"])


def test_its_settings_are_marks(suite: pytest.Pytester) -> None:
    """Of the module, the class and the test: the nearest goes first, and others add to it."""
    suite.makepyfile(
        """
        import pytest
        from asking import ask

        pytestmark = pytest.mark.tensorix_simulator(rpm=9, tpm=1000)

        @pytest.mark.tensorix_simulator(rpm=2)
        class TestLimits:
            def test_of_the_class(self, tensorix_simulator):
                statuses = [ask(tensorix_simulator.base_url).status_code for _ in range(3)]
                assert statuses == [200, 200, 429]

            @pytest.mark.tensorix_simulator(rpm=1, faults=["status 503"])
            def test_of_the_test(self, tensorix_simulator):
                assert ask(tensorix_simulator.base_url).status_code == 503
                settings = tensorix_simulator.settings
                assert (settings.rpm, settings.tpm, settings.ttft) == (1, 1000, "1ms")

        @pytest.mark.tensorix_simulator(rmp=5)
        def test_with_a_slip_of_the_pen(tensorix_simulator):
            pass

        @pytest.mark.tensorix_simulator(5)
        def test_with_no_name(tensorix_simulator):
            pass
        """
    )
    result = run(suite)
    result.assert_outcomes(passed=2, errors=2)
    result.stdout.fnmatch_lines(["*unknown setting 'rmp': one of *rpm*", "*takes settings by name, as rpm=5*"])


def test_the_factory_starts_several(suite: pytest.Pytester) -> None:
    """Of different settings, presets and TLS too; they may be changed, and end with the test."""
    suite.makepyfile(
        """
        import ssl
        import httpx
        import pytest
        from asking import ask

        def test_two_servers(tensorix_simulator_factory):
            one = tensorix_simulator_factory(rpm=1)
            other = tensorix_simulator_factory(tls="valid", presets=["openai"])
            assert [ask(one.base_url).status_code for _ in range(2)] == [200, 429]
            one.change(rpm=3, faults=["status 500"])
            assert ask(one.base_url).status_code == 500
            context = ssl.create_default_context(cafile=other.ca_path)
            headers = {"authorization": "Bearer sk-any"}
            answer = httpx.get(f"{other.base_url}/models", headers=headers, verify=context, trust_env=False)
            assert answer.headers["x-ratelimit-limit-requests"] == "60"
            assert len({one.pid, other.pid}) == 2

        def test_whole_settings(tensorix_simulator_factory):
            from tensorix_simulator.settings import SimulatorSettings
            assert tensorix_simulator_factory(SimulatorSettings(rpm=7)).settings == SimulatorSettings(rpm=7)
        """
    )
    run(suite).assert_outcomes(passed=2)


def test_the_official_client_as_people_write_it(suite: pytest.Pytester) -> None:
    """A test of a service's own that knows nothing of the simulator but its address."""
    suite.makepyfile(
        """
        import openai
        import pytest

        @pytest.fixture
        def client(tensorix_simulator, monkeypatch):
            monkeypatch.setenv("OPENAI_BASE_URL", tensorix_simulator.base_url)
            monkeypatch.setenv("OPENAI_API_KEY", "sk-any")
            with openai.OpenAI(max_retries=0) as client:
                yield client

        @pytest.mark.tensorix_simulator(rpm=1)
        def test_a_limit_is_met(client):
            messages = [{"role": "user", "content": "Hi"}]
            client.chat.completions.create(model="z-ai/glm-5", messages=messages)
            with pytest.raises(openai.RateLimitError):
                client.chat.completions.create(model="z-ai/glm-5", messages=messages)
        """
    )
    run(suite).assert_outcomes(passed=1)


def test_a_suite_that_does_not_use_it_pays_nothing(suite: pytest.Pytester) -> None:
    """No part of the simulator but its plugin is imported, and nothing that is not pytest's or the library's."""
    suite.makepyfile(
        """
        import sys

        def test_what_is_loaded():
            ours = {name for name in sys.modules if name.startswith("tensorix_")}
            assert ours == {"tensorix_simulator", "tensorix_simulator.pytest_plugin"}
            assert not {"httptools", "uvloop", "trustme", "cryptography", "urllib.request"} & set(sys.modules)
        """
    )
    run(suite).assert_outcomes(passed=1)


def test_the_plugin_imports_nothing_but_pytest(subprocess_environment: dict[str, str]) -> None:
    """Beyond what pytest has loaded by itself."""
    code = (
        "import sys, pytest, contextlib, typing, collections.abc; before = set(sys.modules)\n"
        f"import {PLUGIN}\n"
        "print(sorted(set(sys.modules) - before))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], env=subprocess_environment, capture_output=True, text=True, check=True
    )
    assert ran.stdout == f"{['tensorix_simulator', PLUGIN]}\n"


def test_without_the_extra_it_says_what_to_install(suite: pytest.Pytester) -> None:
    """A suite runs where the simulator's parts are missing; a test that asks for it errs, and says which extra."""
    # What makes the simulator's own process miss them: it finds what its parent's path holds.
    suite.makepyfile(httptools="raise ModuleNotFoundError(\"No module named 'httptools'\", name='httptools')")
    suite.makepyfile(
        """
        def test_without():
            pass

        def test_with(tensorix_simulator):
            pass
        """
    )
    result = run(suite)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*httptools is not installed*pip install 'tensorix-toolkit?simulator?'*"])


def test_the_fixtures_are_listed(suite: pytest.Pytester) -> None:
    """`pytest --fixtures` and `--markers` say what they are for."""
    result = run(suite, "--fixtures", "-q")
    result.stdout.fnmatch_lines(["tensorix_simulator_factory*", "*Starts simulators*", "tensorix_simulator*"])
    run(suite, "--markers").stdout.fnmatch_lines(["@pytest.mark.tensorix_simulator(*settings)*"])
