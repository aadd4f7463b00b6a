import pytest

from meshkit.registry.health_row import complaints_in, instance_of


def row(*checks: tuple[str, str], address: str = "10.0.0.2"):
    return {
        "Node": {"Address": "10.0.0.1"},
        "Service": {"ID": "a", "Address": address, "Port": 7, "Meta": None},
        "Checks": [{"Status": status, "Output": output} for status, output in checks],
    }


# checks, is passing, what is said of them
CHECKS = [
    ([], True, ""),
    ([("passing", "fine")], True, ""),
    ([("warning", "slow")], True, ""),
    ([("passing", ""), ("critical", "refused\nat length")], False, "refused"),
    ([("critical", "one"), ("critical", " two "), ("critical", "")], False, "one; two"),
]


@pytest.mark.parametrize(("checks", "is_passing", "complaints"), CHECKS)
def test_only_a_critical_check_fails_an_instance(checks, is_passing, complaints):
    assert (instance_of("s", row(*checks)).is_passing, complaints_in(row(*checks))) == (is_passing, complaints)


@pytest.mark.parametrize(("address", "found"), [("10.0.0.2", "10.0.0.2:7"), ("", "10.0.0.1:7")])
def test_an_instance_without_an_address_is_at_its_nodes(address, found):
    assert instance_of("s", row(address=address)).address == found


@pytest.mark.parametrize("strange", [{}, {"Service": None}, {**row(), "Checks": None}, {**row(), "Service": {}}, 7])
def test_a_row_of_another_shape_is_one_kind_of_error(strange):
    with pytest.raises(ValueError, match="no health row"):
        instance_of("s", strange)
