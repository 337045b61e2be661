"""Everything done with two models, the small one and the large one: the steps of Algorithm 1 and what goes beyond it."""
