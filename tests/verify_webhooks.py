"""Checks webhooks with the reference implementation of the Standard Webhooks specification.

Reads lines of JSON from standard input: secret, headers and body of each. Prints how many there were; ends with 1 at the
first one whose signature or time is wrong."""

import json
import sys

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

count = 0
for line in sys.stdin:
    call = json.loads(line)
    try:
        Webhook(call["secret"]).verify(call["body"], call["headers"])
    except WebhookVerificationError as error:
        print(f"call {count}: {error}")
        sys.exit(1)
    count += 1
print(count)
