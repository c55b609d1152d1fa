import numpy as np
import pytest

from thinkrank.data import load_impressions
from thinkrank.errors import ThinkrankError
from thinkrank.testing import ListSourceContract

HEADER = (
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,"
    "play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab\n"
)
VIDEOS = (
    "video_id,author_id,video_type,upload_dt,upload_type,visible_status,video_duration,server_width,server_height,"
    "music_id,music_type,tag\n"
    "11,a1,NORMAL,2022-04-08,ShortImport,1,9000.0,720,1280,5,4.0,12\n"
    '12,a2,AD,2022-04-10,Web,1,,720,1280,5,9.0,"12,65"\n'
)
DAY = 1_649_376_000  # 2022-04-08, UTC


def row(user: int, video: int, second: float, click: int, long_view: int = 0) -> str:
    return f"{user},{video},20220408,0,{int((DAY + second) * 1000)},{click},0,0,0,0,0,{long_view},0,9000,0,0,0,0,1\n"


@pytest.fixture
def folder(write, tmp_path):
    early = [row(1, 11, 86_400, 1, 1), row(1, 12, 86_400, 0), row(1, 13, 86_500, 0)]
    late = [row(1, 14, 86_600, 1), row(1, 11, 86_700, 0), row(1, 15, 86_800, 0), row(1, 16, 86_900, 1)]
    other = [row(2, 12, 90, 1), row(2, 11, 80, 1), row(2, 13, 100, 1), row(2, 14, 0, 0), row(2, 14, 110, 0)]
    write("data/log_standard_4_08_to_4_21_pure.csv", HEADER + "".join(early + other))
    write("data/log_standard_4_22_to_5_08_pure.csv", HEADER + "".join(late))
    write("data/log_random_4_22_to_5_08_pure.csv", HEADER + row(1, 99, 1, 1))
    write("data/video_features_basic_pure.csv", VIDEOS)
    return tmp_path


class TestContract(ListSourceContract):
    name, options = "kuairand", {"length": 3, "keep": "all"}

    @pytest.fixture
    def path(self, folder):
        return folder


def shown(lists):
    return [[lists.catalogue.ids[item] for item in row if item >= 0] for row in lists.items_LN]


def test_exposures_are_cut_into_blocks_of_a_user_in_time_order(folder):
    lists = load_impressions("kuairand", folder, length=3, keep="all")
    # User 2: 14 11 12 | 13 14 is left over. User 1: 11 12 13 | 14 11 15 | 16 is left over.
    assert shown(lists) == [["14", "11", "12"], ["11", "12", "13"], ["14", "11", "15"]]
    assert lists.feedback("click").tolist() == [[0, 1, 1], [1, 0, 0], [1, 0, 0]]
    assert lists.feedback("long_view").tolist() == [[0, 0, 0], [1, 0, 0], [0, 0, 0]]
    assert (lists.times_L - DAY).tolist() == [0, 86_400, 86_600]
    assert "99" not in lists.catalogue.ids


def test_blocks_without_a_choice_are_left_out(folder):
    assert shown(load_impressions("kuairand", folder, length=2, keep="all")) == [
        ["14", "11"],
        ["12", "13"],
        ["11", "12"],
        ["13", "14"],
        ["11", "15"],
    ]
    assert shown(load_impressions("kuairand", folder, length=2)) == [["14", "11"], ["11", "12"], ["13", "14"]]


def test_a_history_is_what_was_clicked_before_in_dropped_lists_too(folder):
    lists = load_impressions("kuairand", folder, length=2)
    histories = [[lists.catalogue.ids[item] for item in history.items] for history in lists.histories]
    assert histories == [[], [], ["11"]]


def test_a_repeated_video_is_shown_once(folder):
    lists = load_impressions("kuairand", folder, length=5, keep="all")
    assert shown(lists)[0] == ["14", "11", "12", "13"]
    assert lists.notices[1].startswith("dropped 2 slots that show an item a second time in their list")


def test_videos_have_features_where_they_are_known(folder):
    lists = load_impressions("kuairand", folder, length=3, keep="all")
    names = lists.numeric_names[:2]
    assert names == ("log_duration", "log_age")
    np.testing.assert_allclose(lists.numeric_LNF[1, :, 0], [np.log1p(9), 0, 0], rtol=1e-6)
    # Video 12 came out a day after it was shown, as far as its date says.
    np.testing.assert_allclose(lists.numeric_LNF[1, :, 1], [np.log1p(1), 0, 0], rtol=1e-6)
    tag = lists.categorical_names.index("tag")
    assert lists.categorical_LNC[1, :, tag].tolist() == [1, 1, 0]
    assert lists.categorical_sizes[tag] == 2
    assert lists.context_names == ("hour_sin", "hour_cos")
    np.testing.assert_allclose(lists.context_LF[0], [np.sin(np.pi * 8 / 12), np.cos(np.pi * 8 / 12)], atol=1e-6)


def test_what_is_known_counts_only_once_the_block_is_over(folder):
    lists = load_impressions("kuairand", folder, length=3, keep="all")
    shown_before = lists.numeric_LNF[:, :, lists.numeric_names.index("shown_before")]
    # Video 11 was in user 2's list a day before and in user 1's first, which ended 100 seconds before the second.
    assert np.expm1(shown_before[2, 1]) == pytest.approx(2)
    assert np.expm1(shown_before[1, 0]) == pytest.approx(1)


def test_a_log_is_enough(folder):
    (folder / "data" / "video_features_basic_pure.csv").unlink()
    lists = load_impressions("kuairand", folder, length=3)
    assert lists.categorical_names == ()
    assert lists.source["files"] == ["log_standard_4_08_to_4_21_pure.csv", "log_standard_4_22_to_5_08_pure.csv"]


def test_a_fault_names_its_row(write, tmp_path):
    write("log_standard_x.csv", HEADER + row(1, 11, 0, 1) + row(1, 12, 1, -1))
    with pytest.raises(ThinkrankError, match=r"log_standard_x\.csv, row 2 \(line 3\): is_click is not 0 or above"):
        load_impressions("kuairand", tmp_path)
    with pytest.raises(ThinkrankError, match="kuairand: option length=1"):
        load_impressions("kuairand", tmp_path, length=1)
