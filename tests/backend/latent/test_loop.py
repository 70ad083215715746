import torch

from backend.latent.loop import branch, run

QUESTIONS = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8], [9, 1, 2, 2]])


def test_the_loop_is_the_one_written_out_over_whole_texts(tiny):
    """Without a cache: everything is read again for each latent."""
    embed = tiny.model.get_input_embeddings()
    whole = embed(torch.cat([QUESTIONS, torch.full((3, 1), 27)], 1))
    for _ in range(3):
        h = tiny.model.base_model(inputs_embeds=whole).last_hidden_state[:, -1]
        whole = torch.cat([whole, tiny.projection(h)[:, None]], 1)
    h = tiny.model.base_model(inputs_embeds=whole).last_hidden_state[:, -1]
    state = run(tiny, QUESTIONS, 3)
    torch.testing.assert_close(state.h, h)
    answered = torch.cat([whole, embed(torch.full((3, 1), 28))], 1)
    first = tiny.model.lm_head(tiny.model.base_model(inputs_embeds=answered).last_hidden_state[:, -1]).argmax(-1)
    assert [answer[0] for answer in tiny.answer(state, 1)] == first.tolist()


def test_a_row_alone_is_the_row_among_others(tiny):
    together = run(tiny, QUESTIONS, 4)
    for row in range(3):
        alone = run(tiny, QUESTIONS[row : row + 1], 4)
        torch.testing.assert_close(alone.h[0], together.h[row])
        assert tiny.answer(alone, 5) == [tiny.answer(together, 5)[row]]


def test_two_branches_of_one_state_do_not_see_each_other_in_either_order(tiny):
    state = run(tiny, QUESTIONS, 2)
    steps = [torch.ones(3, 16), -torch.ones(3, 16)]
    forward = [tiny.feed(branch(state), z).h for z in steps]
    backward = [tiny.feed(branch(state), z).h for z in reversed(steps)]
    assert torch.equal(forward[0], backward[1]) and torch.equal(forward[1], backward[0])
    assert not torch.equal(forward[0], forward[1])


def test_a_branch_of_some_rows_has_them_in_that_order(tiny):
    state = run(tiny, QUESTIONS, 2)
    picked = branch(state, torch.tensor([2, 0, 2]))
    whole = tiny.feed(branch(state), tiny.next_z(state)).h
    torch.testing.assert_close(tiny.feed(picked, tiny.next_z(picked)).h, whole[[2, 0, 2]])
