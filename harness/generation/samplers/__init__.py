"""How the next token is chosen: functions of logits [B, V] (floating; removed tokens are -inf) that give logits, one idea a file.

    temperature.py   divided by a number, or by one that follows the entropy; bent into a parabola
    prefix.py        the best tokens up to a count, a mass or an entropy: top_k, top_p, typical, top_h
    threshold.py     the tokens above a bar: min_p, top_n_sigma, epsilon, eta, p_less
    penalties.py     less of what was said
    dry.py           no going on with a repetition
    xtc.py           now and then without the best tokens
    mirostat.py      a bar that keeps the surprise constant
    adaptive_p.py    tokens near a probability

Each sees the distribution that the one before it left: probabilities are those of the tokens that remain, renormalised.
`harness.generation.chain` puts them in order.
"""
