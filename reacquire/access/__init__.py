"""Who may ask for what: nobody asked on loopback, API keys, or tokens of the hospital's identity provider."""

from reacquire.access.principal import ANYONE, OPERATION_SCOPE, SCOPES, Principal, Scope

__all__ = ["ANYONE", "OPERATION_SCOPE", "SCOPES", "Principal", "Scope"]
