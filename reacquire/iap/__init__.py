"""Image acquisition parameters (IAP): their vocabulary, their encoding, and how a request is completed."""

from reacquire.iap.encoding import EncodedIap, Encoding
from reacquire.iap.resolve import ResolvedTarget, resolve_target
from reacquire.iap.support import Support, support_of
from reacquire.iap.vocabulary import Categorical, Continuous, Record, Value, Vocabulary, load_vocabulary

__all__ = [
    "Categorical",
    "Continuous",
    "EncodedIap",
    "Encoding",
    "Record",
    "ResolvedTarget",
    "Support",
    "Value",
    "Vocabulary",
    "load_vocabulary",
    "resolve_target",
    "support_of",
]
