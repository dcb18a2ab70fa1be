"""Reading the claims of a queue class."""

from __future__ import annotations

from queuelet_operator.class_claim import Claim, claims, holder, maker, namespace_of

NAME = "queuelet.dev:class:default"


def test_an_operator_of_the_whole_cluster_looks_at_one_claim_and_holds_it() -> None:
    assert claims("default", ()) == [Claim(name=NAME)]
    assert claims("default", ())[0].kind == "ClusterRole"


def test_an_operator_of_some_namespaces_holds_a_claim_in_each_and_obeys_that_of_the_cluster() -> None:
    assert claims("default", ("shop", "bank")) == [
        Claim(name=NAME, can_hold=False),
        Claim(name=NAME, namespace="shop"),
        Claim(name=NAME, namespace="bank"),
    ]
    assert claims("default", ("shop",))[1].kind == "Role"


def test_a_claim_says_for_whom_it_was_made_and_who_holds_it() -> None:
    noted = {"queuelet.dev/claimed-by": "second/shop", "queuelet.dev/held-by": "first/shop"}
    claim = {"metadata": {"annotations": noted}}
    assert (maker(claim), holder(claim)) == ("second/shop", "first/shop")
    assert (maker({"metadata": {}}), holder({"metadata": {"annotations": None}})) == ("", "")


def test_an_instance_of_the_chart_names_its_namespace() -> None:
    assert namespace_of("shop/queuelet") == "shop"
    assert namespace_of("queuelet") == ""
