"""What billing.metering is made of: from the open usage of an hour to the record that AWS will get."""
