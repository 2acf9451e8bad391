"""Industrial cameras that speak GenICam, through the GenTL producer of their vendor (extra `genicam`)."""
