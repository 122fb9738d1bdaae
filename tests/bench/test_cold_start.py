from bench.cold_start import Taken, table


def test_medians_beside_a_warm_clip() -> None:
    rows = {
        "first command": [Taken(7.0, 12.0), Taken(9.0, 13.0), Taken(70.0, 14.0)],
        "command again": [Taken(4.0, 8.0), Taken(5.0, 8.0), Taken(4.5, 9.0)],
        "warm clip": [Taken(3.0, 5.0), Taken(2.0, 6.0), Taken(3.0, 5.0)],
    }
    header, *lines = table(rows).splitlines()
    assert header.split() == ["seconds", "CPU", "seconds", "of", "a", "warm", "clip"]
    assert [line.split()[-3:] for line in lines] == [
        ["9.00", "13.00", "3.00"],
        ["4.50", "8.00", "1.50"],
        ["3.00", "5.00", "1.00"],
    ]
