"""Who shares a process, and which machine carries it: pure functions of what Ray says of its nodes."""

from sim.placement import Node, node_of_edge, nodes_of_hosts, shares


def node(name: str, cores: float = 2, gpus: float = 0, for_edge: bool = False) -> Node:
    return Node(name, f"10.0.0.{name}", cores, gpus, for_edge)


def test_users_are_shared_out_in_order_and_evenly() -> None:
    assert shares(5, "auto", 2) == [[0, 1, 2], [3, 4]]
    assert shares(2, "auto", 8) == [[0], [1]]
    assert shares(2, "per_user", 1) == [[0], [1]]
    assert shares(4, 1, 8) == [[0, 1, 2, 3]]


def test_the_edge_goes_where_it_is_meant_to_else_to_a_gpu_else_to_the_driver() -> None:
    plain, driver, gpu, meant = node("1"), node("2"), node("3", gpus=1), node("4", for_edge=True)
    assert node_of_edge([plain, driver, gpu, meant], "2") is meant
    assert node_of_edge([plain, driver, gpu], "2") is gpu
    assert node_of_edge([plain, driver], "2") is driver
    assert node_of_edge([gpu, node("5", gpus=1)], "5").id == "5"
    assert node_of_edge([plain, driver], "gone") is plain


def test_hosts_go_where_fewest_share_a_core() -> None:
    small, large = node("1", cores=2), node("2", cores=6)
    placed = nodes_of_hosts(8, [small, large], edge=small)
    assert [placed.count(small), placed.count(large)] == [2, 6]


def test_equal_nodes_take_turns_and_the_edges_comes_last() -> None:
    edge, other, third = node("1"), node("2"), node("3")
    assert nodes_of_hosts(4, [edge, third, other], edge) == [other, third, edge, other]


def test_a_node_without_cores_takes_a_host_only_where_none_has_any() -> None:
    head, worker = node("1", cores=0), node("2")
    assert nodes_of_hosts(3, [head, worker], edge=head) == [worker] * 3
    assert nodes_of_hosts(2, [head, node("3", cores=0)], edge=head) == [head] * 2
