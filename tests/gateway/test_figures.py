"""What `show stat` says of deployments, of all processes together."""

from __future__ import annotations

from pipeline.gateway.figures import Figures, figures_of

HEAD = "# pxname,svname,qcur,scur,lastsess,req_tot,\n"


def test_servers_and_what_is_no_deployment_count_for_nothing() -> None:
    text = HEAD + "calls,FRONTEND,,9,,9,\nunknown,BACKEND,0,1,2,1,\nd_a,r1,0,2,1,,\n"
    assert figures_of([text + "d_a,BACKEND,1,2,3,4,\n\n"]) == {"a": Figures(2, 1, 4, 3)}


def test_what_goes_on_from_before_a_reload_counts_and_what_was_does_not() -> None:
    newer = HEAD + "d_a,BACKEND,0,0,-1,0,\nd_b,BACKEND,0,1,0,1,\n"
    older = HEAD + "d_a,BACKEND,2,3,60,90,\nd_c,BACKEND,0,0,-1,0,\n"
    found = figures_of([newer, older])
    assert found["a"] == Figures(under_way=3, queued=2, requests=0, idle_for_s=60)
    assert found["b"] == Figures(1, 0, 1, 0)
    assert (found["c"].idle_for_s, found["c"].is_idle) == (None, True)


def test_answers_are_counted_by_their_class() -> None:
    head = "# pxname,svname,qcur,scur,lastsess,req_tot,hrsp_1xx,hrsp_2xx,hrsp_5xx,hrsp_other,\n"
    [found] = figures_of([head + "d_a,BACKEND,0,0,1,9,0,7,2,,\n"]).values()
    assert found.answers == {"2xx": 7, "5xx": 2}
