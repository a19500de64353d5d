"""Loading one plugin: every fault ends in one clear line, and no fault reaches another method."""

from __future__ import annotations

import sys

import pytest
from fake_distributions import HOOK, Site

from regtool.errors import PluginError
from regtool.plugins import discovery
from regtool.plugins.description import API_VERSION

FAULTS = {
    "broken import": ("1 / 0\n", HOOK, "ZeroDivisionError"),
    "missing dependency": (
        "import not_there_at_all\n",
        HOOK,
        "needs the module 'not_there_at_all'",
    ),
    "syntax": ("def broken(:\n", HOOK, "SyntaxError"),
    "leaves": ("import sys; sys.exit(3)\n", HOOK, "SystemExit"),
    "wrong hook argument": (
        "",
        "@hookimpl\ndef regtool_method(config):\n    return method()\n",
        "config",
    ),
    "misspelt hook": (
        "",
        "@hookimpl\ndef regtool_metod():\n    return method()\n",
        "regtool_metod",
    ),
    "unmarked hook": ("", "def regtool_method():\n    return method()\n", "lacks the decorator"),
    "no hook": ("", "", "no hook regtool_method"),
    "hook fails": ("", "@hookimpl\ndef regtool_method():\n    raise KeyError('x')\n", "KeyError"),
    "wrong type": ("", "@hookimpl\ndef regtool_method():\n    return {'name': 1}\n", "dict"),
    "nothing": ("", "@hookimpl\ndef regtool_method():\n    pass\n", "no hook regtool_method that"),
}

CHANGES = {
    f"api={API_VERSION + 1}": "upgrade regtool",
    "api='1'": "not a positive whole number",
    "name='other-name'": "calls itself 'other-name'",
    "ndim=()": "ndim",
    "ndim=(4,)": "ndim",
    "tools=('ants',)": "not a mapping",
    "capabilities=frozenset({'magic'})": "unknown capability 'magic'",
    "model='no colon'": "model is 'no colon'",
    "recipe='module'": "recipe is 'module'",
    "surprise=1": "TypeError",
}


def broken(name: str) -> PluginError:
    """The error of loading ``name``, checked for what every one of them must have."""
    with pytest.raises(PluginError) as caught:
        discovery.load(name)
    assert caught.value.exit_code == 5
    assert "\n" not in str(caught.value)
    assert f"'{name}' of fake-{name} 1.0" in str(caught.value)
    assert caught.value.__cause__ is not None, "nothing for --debug to show"
    return caught.value


def others_work(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The method ``bystander`` loads, alone and in a list; strict mode stops at the fault."""
    monkeypatch.setenv("REGTOOL_LOAD_PLUGINS", f"bystander,{name}")
    assert discovery.load("bystander").name == "bystander"
    found, failures = discovery.load_all()
    assert [method.name for method in found] == ["bystander"]
    assert [failure.name for failure in failures] == [name]
    monkeypatch.setenv("REGTOOL_STRICT_PLUGINS", "1")
    with pytest.raises(PluginError):
        discovery.load_all()
    assert discovery.load("bystander").name == "bystander"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_module_is_isolated(
    site: Site, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    before, body, reason = FAULTS[fault]
    site.add("faulty", body, before=before)
    site.add("bystander")
    assert reason in str(broken("faulty"))
    others_work("faulty", monkeypatch)


@pytest.mark.parametrize("change", CHANGES)
def test_a_faulty_description_is_isolated(
    site: Site, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    site.add("faulty", f"@hookimpl\ndef regtool_method():\n    return method({change})\n")
    site.add("bystander")
    assert CHANGES[change] in str(broken("faulty"))
    others_work("faulty", monkeypatch)


@pytest.mark.parametrize("value", ["fake_gone", "fake_gone.plugin", "fake_bystander.plugin"])
def test_stale_metadata_is_told_from_a_missing_dependency(
    site: Site, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    site.add("bystander")
    site.declare("fake-faulty", "1.0", f"faulty = {value}")
    text = str(broken("faulty"))
    assert f"metadata names the module '{value}', which is not there" in text
    assert "reinstall" in text
    others_work("faulty", monkeypatch)


def test_a_missing_attribute_is_reported(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.add("faulty", value="fake_faulty:Plugin")
    site.add("bystander")
    assert "Plugin" in str(broken("faulty"))
    others_work("faulty", monkeypatch)


def test_an_entry_point_that_is_no_import_string_is_reported(site: Site) -> None:
    site.declare("fake-faulty", "1.0", "faulty = not a module!")
    broken("faulty")


def test_an_object_may_be_the_plugin(site: Site) -> None:
    body = (
        "class Plugin:\n"
        "    @hookimpl\n"
        "    def regtool_method(self):\n"
        "        return method()\n"
        "plugin = Plugin()\n"
    )
    site.add("objective", body, value="fake_objective:plugin")
    assert discovery.load("objective").name == "objective"
    assert discovery.load("objective") == discovery.load("objective")


def test_one_distribution_may_bring_several_methods(site: Site) -> None:
    site.add("left-fake", distribution="fake-pair")
    (site.folder / "fake_pair_right.py").write_text(
        "from fake_pair import hookimpl, method\n"
        + HOOK.replace("method()\n", "method(name='right-fake')\n")
    )
    site.modules.append("fake_pair_right")
    info = site.folder / "fake_pair-1.0.dist-info" / "entry_points.txt"
    info.write_text(info.read_text() + "right-fake = fake_pair_right\n")
    assert discovery.load("left-fake").name == "left-fake"
    assert discovery.load("right-fake").name == "right-fake"


def test_printing_on_import_goes_to_stderr(
    site: Site,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = site.add("chatty", before="print('hello from chatty')\n")
    with caplog.at_level("WARNING", "regtool"):
        assert discovery.load("chatty").name == "chatty"
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "hello from chatty" in captured.err
    assert "prints on import" in caplog.text
    monkeypatch.setenv("REGTOOL_STRICT_PLUGINS", "1")
    del sys.modules[module]
    with pytest.raises(PluginError, match="prints on import"):
        discovery.load("chatty")


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("torch.set_default_dtype(torch.float64)", "default dtype"),
        ("torch.set_default_device('meta')", "default device"),
        ("torch.set_grad_enabled(False)", "gradient mode"),
    ],
)
def test_global_torch_state_is_put_back(
    site: Site,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    line: str,
    what: str,
) -> None:
    import torch

    module = site.add("meddler", before=f"import torch\n{line}\n")
    with caplog.at_level("WARNING", "regtool"):
        discovery.load("meddler")
    assert what in caplog.text
    assert torch.get_default_dtype() == torch.float32
    assert torch.zeros(1).device.type == "cpu"
    assert torch.is_grad_enabled()
    monkeypatch.setenv("REGTOOL_STRICT_PLUGINS", "1")
    del sys.modules[module]
    with pytest.raises(PluginError, match=what):
        discovery.load("meddler")
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()
    torch.set_default_device(None)


def test_a_network_module_is_imported_under_the_same_guard(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    text = "import torch\ntorch.set_default_dtype(torch.float64)\nprint('loud')\nanswer = 42\n"
    (site.folder / "fake_heavy.py").write_text(text)
    site.modules.append("fake_heavy")
    assert discovery.resolve_import("fake_heavy:answer") == 42
    assert torch.get_default_dtype() == torch.float32
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("fake_gone.network:build", "which is not there"),
        ("fractions:nothing_such", "nothing_such"),
        ("fractions", "not of the form"),
        ("fractions:", "not of the form"),
        (":build", "not of the form"),
    ],
)
def test_an_import_string_that_leads_nowhere_is_a_plugin_error(spec: str, reason: str) -> None:
    with pytest.raises(PluginError, match=reason) as caught:
        discovery.resolve_import(spec, "model of method 'x'")
    assert str(caught.value).startswith("model of method 'x'")


def test_an_interruption_is_not_a_fault_of_the_plugin(site: Site) -> None:
    site.add("stopped", before="raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        discovery.load("stopped")
