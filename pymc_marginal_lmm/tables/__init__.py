"""Tables with more rows than memory holds: what their rows say, summed up where they lie."""
