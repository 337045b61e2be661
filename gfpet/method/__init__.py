"""Everything done with two models, a small (S) and a large one (L): the steps of Algorithm 1, and extensions of it."""
