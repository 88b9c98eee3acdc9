"""``pm.Model`` in, ``pm.Model`` out: the public verbs, one file each."""
