"""The page, as visitors meet it, with a pipeline that stands in for the networks."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from keyvid.serve.app import make_app
from keyvid.serve.limits import Limits
from tests.serve.conftest import EXAMPLES, StandIn
from tests.serve.queue import Queue
from tests.serve.server import running
from tests.serve.visitor import CHROMIUM, PHONE, WIDE, Visitor, browsing

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no Chromium: apt-get install chromium"
)

Visit = Callable[..., Visitor]
DRUM = (EXAMPLES / "drum.png", EXAMPLES / "drum.wav")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with browsing() as browser:
        yield browser


@pytest.fixture
def visit(browser: Any, live: Callable[..., str]) -> Iterator[Visit]:
    """`visit(size, limits)`: one who has opened the page, and whose browser has no complaints."""
    visitors: list[Visitor] = []

    def begin(size: tuple[int, int] = WIDE, limits: Limits | None = None, **more: Any) -> Visitor:
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]}, has_touch=size == PHONE, **more
        )
        visitors.append(Visitor(context.new_page(), live(limits)))
        return visitors[-1]

    yield begin
    for visitor in visitors:
        visitor.page.context.close()
        assert not visitor.complaints
        assert not visitor.strangers


def test_a_fresh_page_and_an_example(visit: Visit, pipeline: StandIn) -> None:
    visitor = visit()
    visitor.choose("hammer")
    visitor.make()
    visitor.sees("Clip 1: hammer")
    with visitor.page.expect_download() as download:
        visitor.page.get_by_role("link", name="Download the clip").click()
    assert download.value.suggested_filename == "keyvid-hammer-1.mp4"
    assert Path(download.value.path()).read_bytes()[4:8] == b"ftyp"
    for name in ("Report", "Plot"):
        with visitor.page.expect_download() as download:
            visitor.page.get_by_role("link", name=name).click()
        assert Path(download.value.path()).stat().st_size > 1000
    assert [clip.prompt for clip in pipeline.made] == ["hammer"]


def test_what_is_made_again_stands_beside_the_first(visit: Visit, pipeline: StandIn) -> None:
    visitor = visit()
    visitor.choose("drum")
    visitor.make()
    visitor.sees("Clip 1")
    visitor.page.get_by_label("Seed").fill("7")
    visitor.make()
    visitor.sees("Clip 2")
    assert [clip.seed for clip in pipeline.made] == [0, 7]
    visitor.page.get_by_role("button", name="Clip 1").click()
    visitor.sees("Clip 1")


def test_a_hasty_visitor(visit: Visit, pipeline: StandIn) -> None:
    visitor = visit()
    slow = "**/examples/drum.wav"
    visitor.page.route(slow, lambda route: (visitor.page.wait_for_timeout(500), route.continue_()))
    visitor.page.get_by_role("button", name="drum").click()
    visitor.make()
    visitor.sees("Clip 1: drum")
    assert len(pipeline.made) == 1


def test_the_focus_stays_while_a_clip_is_made(visit: Visit, pipeline: StandIn) -> None:
    pipeline.may_go_on.clear()
    visitor = visit()
    visitor.choose("drum")
    button = visitor.page.get_by_role("button", name="Make the clip")
    button.press("Enter")
    visitor.page.get_by_text("Being made").first.wait_for()
    assert button.get_attribute("aria-disabled") == "true"
    assert visitor.page.evaluate("document.activeElement.id") == "make"
    visitor.page.keyboard.press("Enter")
    pipeline.may_go_on.set()
    visitor.sees("Clip 1")
    assert len(pipeline.made) == 1, "once is enough"


def test_another_sound_and_its_marks(visit: Visit) -> None:
    """The last sound that was chosen is drawn, even where an earlier one is read more slowly."""
    visitor = visit()
    visitor.choose("drum")
    visitor.page.get_by_role("button", name="Add a beat").click()
    beats = visitor.page.get_by_role("slider", name="Beat")
    assert beats.count() == 1
    visitor.page.evaluate(
        """() => {
            const read = AudioContext.prototype.decodeAudioData;
            const late = new Promise((resolve) => (window.goOn = resolve));
            let count = 0;
            AudioContext.prototype.decodeAudioData = async function (bytes) {
                const sound = await read.call(this, bytes);
                if (!count++) await late;
                return sound;
            };
        }"""
    )
    visitor.choose("ball")
    assert beats.count() == 0
    visitor.choose("hammer")
    wave = visitor.page.locator(".wave")
    visitor.page.wait_for_function("() => document.querySelector('.wave').getAttribute('d')")
    drawn = wave.get_attribute("d")
    visitor.page.evaluate("goOn()")
    visitor.page.wait_for_timeout(100)
    assert wave.get_attribute("d") == drawn


def test_beats_and_keyframes_exclude_each_other(visit: Visit, pipeline: StandIn) -> None:
    visitor = visit()
    visitor.choose("drum")
    visitor.make()
    visitor.sees("Clip 1")
    note = visitor.page.locator("#timeline .note")
    beats, keyframes = visitor.page.locator("#beats"), visitor.page.locator("#keyframes")
    visitor.page.get_by_role("slider", name="Keyframe 12").press("ArrowLeft")
    assert keyframes.input_value()
    visitor.page.get_by_role("button", name="Add a beat").click()
    assert (bool(beats.input_value()), keyframes.input_value()) == (True, "")
    assert "1 beat as you put it" in note.inner_text()
    assert "keyframes are as the server finds them" in note.inner_text()
    visitor.setting("keyframes").fill("uniform")
    visitor.setting("keyframes").press("Tab")
    assert beats.input_value() == ""
    assert "beats are as the server finds them" in note.inner_text()
    visitor.make()
    visitor.sees("Clip 2")
    assert note.inner_text() == ""


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_files_of_ones_own(visit: Visit, pipeline: StandIn, kind: str) -> None:
    visitor = visit()
    visitor.hands_over(kind, "main", *DRUM)
    visitor.page.get_by_alt_text("Picture: drum.png").wait_for()
    visitor.make()
    visitor.sees("Clip 1: without a prompt")
    visitor.page.locator("#image").set_input_files(EXAMPLES / "ball.png")
    visitor.page.get_by_alt_text("Picture: ball.png").wait_for()
    visitor.make()
    visitor.sees("Clip 2")
    first, second = pipeline.made
    assert (first.inputs.picture != second.inputs.picture).any()


def test_files_that_are_neither(visit: Visit) -> None:
    visitor = visit()
    visitor.hands_over("drop", "#order-title", EXAMPLES / "drum.json")
    visitor.reads("drum.json: neither a picture nor a sound")
    visitor.hands_over("drop", "#image-well", EXAMPLES / "drum.json")
    visitor.hands_over("drop", "main", EXAMPLES / "drum.wav")
    visitor.make()
    visitor.reads("the picture: ")
    assert visitor.page.evaluate("document.activeElement.id") == "image", "where the mistake is"


def test_a_sound_from_the_microphone(visit: Visit, pipeline: StandIn) -> None:
    visitor = visit(permissions=["microphone"])
    visitor.page.get_by_role("button", name="Record").click()
    visitor.page.get_by_text("Recording: 2.").wait_for()
    visitor.page.get_by_role("button", name="Stop").click()
    visitor.page.get_by_label("Sound: recording.webm").wait_for()
    visitor.hands_over("drop", "main", DRUM[0])
    visitor.make()
    visitor.sees("Clip 1")
    assert abs(pipeline.made[0].inputs.mono).max() > 0.01, "the device of the test beeps"


def test_an_error_stays_at_its_field_and_the_clip_stays_too(visit: Visit) -> None:
    visitor = visit()
    visitor.make()
    visitor.reads("There is no picture")
    visitor.reads("There is no sound")
    visitor.choose("drum")
    visitor.make()
    visitor.sees("Clip 1")
    for field, value, error in (
        ("keyframes", "0,1", "2 given; want auto, uniform or 12 ascending"),
        ("start", "99", "start is 99 s, beyond the end of the sound"),
        ("length", "99", "this server makes clips of 60 s at most"),
        ("interpolator-steps", "0", "interpolator-steps 0: want a whole number"),
    ):
        visitor.setting(field).fill(value)
        visitor.make()
        visitor.page.locator(f"#{field}-error").filter(has_text=error).wait_for()
        assert visitor.page.evaluate("document.activeElement.id") == field
        assert visitor.setting(field).get_attribute("aria-invalid") == "true"
        visitor.sees("Clip 1")
        visitor.setting(field).fill("")
        assert not visitor.page.locator(f"#{field}-error").inner_text()


def test_a_clip_that_fails_leaves_the_one_before(visit: Visit, pipeline: StandIn) -> None:
    visitor = visit()
    visitor.choose("drum")
    visitor.make()
    visitor.sees("Clip 1")
    pipeline.failure = MemoryError()
    visitor.make()
    visitor.reads("unexpected MemoryError; the server's log says more")
    visitor.sees("Clip 1")
    assert visitor.page.get_by_role("button", name="Make the clip").is_enabled()


def test_cancel_and_the_place_in_the_queue(visit: Visit, pipeline: StandIn) -> None:
    pipeline.may_go_on.clear()
    visitor = visit()
    visitor.choose("drum")
    visitor.make()
    visitor.page.get_by_text("Being made: generator, step 3 of 4").wait_for()
    url = visitor.page.url.partition("#")[0]
    other = visitor.page.context.new_page()
    second = Visitor(other, url.rstrip("/"))
    second.choose("ball")
    second.make()
    other.locator("#how-far").get_by_text("1 clip is made before yours").wait_for()
    visitor.page.get_by_role("button", name="Cancel").click()
    visitor.page.get_by_role("status").filter(has_text="Cancelled.").wait_for()
    assert visitor.page.get_by_role("button", name="Cancel").is_hidden()
    pipeline.may_go_on.set()
    second.sees("Clip 1: ball")
    assert len(pipeline.made) == 1


def test_a_page_that_is_loaded_again_finds_its_clip(visit: Visit, pipeline: StandIn) -> None:
    pipeline.may_go_on.clear()
    visitor = visit()
    visitor.choose("drum")
    visitor.make()
    visitor.page.get_by_text("Being made").first.wait_for()
    visitor.page.reload()
    visitor.page.get_by_text("Being made").first.wait_for()
    pipeline.may_go_on.set()
    visitor.page.locator("video[src]").wait_for()


def test_on_a_phone(visit: Visit) -> None:
    visitor = visit(PHONE)
    visitor.choose("drum")
    visitor.make()
    visitor.sees("Clip 1")
    width = visitor.page.evaluate("document.documentElement.scrollWidth")
    assert width <= PHONE[0], "nothing sticks out"
    assert visitor.page.locator("video").evaluate("v => v.getBoundingClientRect().top") < PHONE[1]
    mark = visitor.page.get_by_role("slider", name="Keyframe 6")
    mark.scroll_into_view_if_needed()
    before = mark.get_attribute("aria-valuenow")
    box = mark.bounding_box()
    finger = {"pointerType": "touch", "pointerId": 1, "bubbles": True}
    y = box["y"] + 12
    mark.evaluate("(m) => (m.setPointerCapture = () => {})")
    for kind, dx in (("pointerdown", 12), ("pointermove", 20), ("pointerup", 20)):
        mark.dispatch_event(kind, {**finger, "clientX": box["x"] + dx, "clientY": y})
    assert mark.get_attribute("aria-valuenow") == str(int(before) + 1)


def test_keyframes_are_moved_by_keyboard_alone(visit: Visit, pipeline: StandIn) -> None:
    visitor = visit()
    keyboard = visitor.page.keyboard

    def tab_to(name: str) -> None:
        label = "() => (a => a.getAttribute('aria-label') || a.innerText)(document.activeElement)"
        for _ in range(90):
            keyboard.press("Tab")
            if visitor.page.evaluate(label).strip() == name:
                return
        raise AssertionError(f"{name} is not reached")

    tab_to("drum")
    keyboard.press("Enter")
    visitor.page.get_by_alt_text("Picture: drum.png").wait_for()
    tab_to("Make the clip")
    keyboard.press("Enter")
    visitor.sees("Clip 1")
    tab_to("Keyframe 2")
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft"):
        keyboard.press(key)
    assert visitor.page.locator("#keyframes").input_value().startswith("0,6,8,12"), "up to the next"
    tab_to("Make the clip")
    keyboard.press("Enter")
    visitor.sees("Clip 2")
    assert pipeline.made[1].keyframes.tolist()[:4] == [0, 6, 8, 12]


def test_beats_are_added_moved_and_deleted(visit: Visit, pipeline: StandIn) -> None:
    visitor = visit()
    visitor.choose("drum")
    beats = visitor.page.locator("#beats")
    visitor.setting("beats")
    lane = visitor.page.get_by_role("group", name="Beats")
    visitor.page.get_by_role("button", name="Add a beat").click()
    assert beats.input_value() == "1", "in the middle of two seconds"
    box = lane.bounding_box()
    visitor.page.mouse.dblclick(box["x"] + box["width"] / 4, box["y"] + 15)
    assert beats.input_value() == "0.5,1"
    visitor.page.keyboard.press("ArrowRight")
    assert beats.input_value() == "0.5417,1"
    mark = visitor.page.get_by_role("slider", name="Beat 2").bounding_box()
    visitor.page.mouse.move(mark["x"] + 12, mark["y"] + 12)
    visitor.page.mouse.down()
    visitor.page.mouse.move(box["x"] + box["width"] * 0.75, mark["y"], steps=5)
    visitor.page.mouse.up()
    assert beats.input_value() == "0.5417,1.5"
    visitor.page.get_by_role("slider", name="Beat 1").press("Delete")
    assert beats.input_value() == "1.5"
    visitor.page.get_by_role("slider", name="Beat 1").press("End")
    assert beats.input_value() == "1.9583", "in the last frame"
    visitor.make()
    visitor.sees("Clip 1")
    assert pipeline.made[0].asked["beats"] == "1.9583"
    beats.fill("2.5")
    visitor.make()
    visitor.page.locator("#beats-error").filter(has_text="2.5 s is outside the clip").wait_for()
    visitor.page.get_by_role("button", name="Beats as heard").click()
    assert beats.input_value() == ""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, PHONE])
def test_everybody_can_use_it(visit: Visit, scheme: str, size: tuple[int, int]) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="a tool of [dev]")
    visitor = visit(size, color_scheme=scheme)
    visitor.choose("drum")
    visitor.make()
    visitor.sees("Clip 1")
    visitor.setting("steps").fill("0")
    visitor.make()
    visitor.reads("steps 0")
    found = axe.Axe().run(visitor.page).response["violations"]
    assert not [v["id"] for v in found if v["impact"] in ("serious", "critical")]


def test_the_description_for_programs(visit: Visit) -> None:
    visitor = visit()
    visitor.page.get_by_role("link", name="For programs").click()
    visitor.page.locator(".opblock-post").first.wait_for()
    assert visitor.page.locator(".opblock").count() > 10


def test_the_packaged_model(browser: Any, tmp_path: Path) -> None:
    with running(tmp_path / "log", tmp_path / "temporary", "--threads", "1") as server:
        visitor = Visitor(browser.new_page(), server.url)
        visitor.page.set_default_timeout(120_000)
        visitor.choose("hammer")
        visitor.page.get_by_label("Quality").select_option("fast")
        visitor.make()
        visitor.sees("Clip 1: hammer")
        visitor.page.close()
        assert not visitor.complaints
        assert not visitor.strangers


def test_there_is_none_where_it_is_not_wanted(
    pipeline: StandIn, queue: Queue, tmp_path: Path
) -> None:
    workshop = queue.workshop(pipeline, tmp_path)
    for has_page, status in ((True, 200), (False, 404)):
        with_or_without = TestClient(make_app(workshop, has_page=has_page), "http://localhost")
        assert with_or_without.get("/").status_code == status
        assert with_or_without.get("/docs").status_code == 200
