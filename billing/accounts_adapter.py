from accounts.adapter import AccountsAdapter


class BillingAccountsAdapter(AccountsAdapter):
    pass
