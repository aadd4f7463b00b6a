"""The response cache: whole answers by the digest of the request, in tiers, partitioned by tenant."""
