"""Everything done with two models, a small and a large one: the steps of Algorithm 1 and what goes beyond it."""
