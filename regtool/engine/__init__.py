"""The verbs: register, apply, jacobian, train. No argument parsing, no printing."""
