"""Models that a user would pick otherwise, held to the rules of the streaming ones.

Each is a small dataclass of NumPy arrays with a `fit_...` function and a `predict`. `predict` is
strictly causal, row t knows rows up to t of the same segment only, and its docstring tells the step
form: state, its start, and the arithmetic of one bin. A live node that does that arithmetic gives
the same numbers.

All fits take the training part alone. Where a setting has to be chosen, rows from
`validation_start` on choose it, and the model is fitted again on all of the training part.
"""
