//! ResNets built from cn-ops: parameter names, groups, heads and weight files.
