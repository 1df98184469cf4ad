"""The thresholds of the framework, written out a second time.

Kept apart from the package's own policy so that a wrong default there is found, not copied.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class OraclePolicy:
    """Thresholds in whole days unless said otherwise (sections 3, 4 and 5).

    Attributes:
        new_user_days: Difference to signup (or first access) up to which one can be new.
        active_days: Largest gap since the last qualifying date that still is active.
        dormant_days: Largest gap that still is dormant.
        min_qualifying_events_to_activate: Qualifying events that end the state new (a count).
        trial_days: Difference to creation up to which an unpaid account is on trial.
        onboarding_days: Difference to first payment in which nothing but new_paid is said.
        new_paid_days: Difference to first payment up to which an account may be new_paid.
        churn_days: Days lapsed from which an account counts as churned.
        reactivated_days: Difference to the return of a churned payer for reactivated.
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
