"""The thresholds of the framework, written a second time to detect a wrong default in the package."""

from dataclasses import dataclass


@dataclass(frozen=True)
class OraclePolicy:
    """Thresholds in days unless stated otherwise (sections 3, 4 and 5).

    Attributes:
        new_user_days: Maximum days since signup (or first access) of a new user.
        active_days: Maximum gap since the last qualifying date of an active user.
        dormant_days: Maximum gap of a dormant user.
        min_qualifying_events_to_activate: Qualifying events that end the state new (a count).
        trial_days: Maximum days since creation of an account on trial.
        onboarding_days: Days since first payment for which an account is always new_paid.
        new_paid_days: Maximum days since first payment of a new_paid account.
        churn_days: Minimum days lapsed of a churned account.
        reactivated_days: Maximum days since the return of a reactivated account.
        dunning_days: Days after the first open failure at which the subscription ends.
        breadth_target: Products in use that give the full breadth score (a count).
    """

    new_user_days: int = 30
    active_days: int = 30
    dormant_days: int = 60
    min_qualifying_events_to_activate: int = 1
    trial_days: int = 30
    onboarding_days: int = 30
    new_paid_days: int = 90
    churn_days: int = 61
    reactivated_days: int = 90
    dunning_days: int = 30
    breadth_target: int = 5
