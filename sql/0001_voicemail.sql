-- The service's own schema. Nothing here refers to the switch's tables, and nothing is added to them:
-- mod_voicemail drops and recreates its tables when a probe of its columns fails at profile load.

CREATE TABLE voicemail.mailbox (
    id                uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    domain            text NOT NULL,
    extension         text NOT NULL,
    pin_encrypted     bytea NOT NULL,                     -- AES-GCM with VOICEMAIL_SECRET_KEY
    mail_to           text NOT NULL DEFAULT '',           -- addresses as given, separated by commas
    local_after_email boolean NOT NULL DEFAULT true,
    enabled           boolean NOT NULL,
    description       text NOT NULL DEFAULT '',
    time_zone         text,                               -- NULL: the service's
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    UNIQUE (domain, extension)
);

-- What the switch should have for an extension and whether it has it. A row without a mailbox is a removal under way.
CREATE TABLE voicemail.directory_entry (
    domain       text NOT NULL,
    extension    text NOT NULL,
    revision     bigint NOT NULL DEFAULT 1,               -- raised by every change the switch must learn
    state        text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'applied', 'failed')),
    detail       text NOT NULL DEFAULT '',                -- why it is pending or failed
    attempts     integer NOT NULL DEFAULT 0,              -- of this revision
    next_try_at  timestamptz NOT NULL DEFAULT now(),
    applied_at   timestamptz,
    prefs_digest bytea,                                   -- keyed digest of the PIN last seen in or written to voicemail_prefs
    PRIMARY KEY (domain, extension)
);
CREATE INDEX directory_entry_due ON voicemail.directory_entry (next_try_at) WHERE state <> 'applied';

-- One row for every row of voicemail_msgs ever seen: its id in the API, and that it was seen.
CREATE TABLE voicemail.message (
    id            uuid PRIMARY KEY,
    row_key       bytea NOT NULL UNIQUE,                  -- SHA-256 of domain, username, uuid and file_path: any length fits
    domain        text COLLATE "C" NOT NULL,              -- this and the next three as on the switch; bytes that are no UTF-8 as U+FFFD
    username      text COLLATE "C" NOT NULL,
    uuid          text COLLATE "C" NOT NULL,
    file_path     text COLLATE "C" NOT NULL,
    exact         boolean NOT NULL,                       -- the four are letter for letter as on the switch, and short enough for an index
    recording     text,                                   -- relative to the recordings folder; NULL: outside it
    created_epoch bigint NOT NULL,
    seen_at       timestamptz NOT NULL DEFAULT now()
);
-- For lists: from the rows of a mailbox to their ids, side by side, without a look at the table (app/messages/pages.py).
CREATE INDEX message_row ON voicemail.message (username, domain, created_epoch, uuid) INCLUDE (id, file_path) WHERE exact;
CREATE INDEX message_recording ON voicemail.message (recording);

CREATE TABLE voicemail.recording (
    path        text PRIMARY KEY CHECK (octet_length(path) <= 2000),  -- relative to the recordings folder
    size        bigint NOT NULL,                          -- bytes
    mtime_ns    bigint NOT NULL,
    duration    double precision,                         -- seconds, from the data; NULL: not a format this service can read
    codec       text NOT NULL,
    sample_rate integer,
    channels    integer,
    sha256      bytea NOT NULL,
    indexed_at  timestamptz NOT NULL DEFAULT now()
);

-- The ledger of mails: what was to be sent, every outcome, and what became of the recording.
CREATE TABLE voicemail.notification (
    id                uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    message_id        uuid NOT NULL UNIQUE REFERENCES voicemail.message (id),
    mailbox_id        uuid NOT NULL,                      -- no foreign key: the mailbox may be deleted, the ledger stays
    domain            text NOT NULL,
    extension         text NOT NULL,
    mail_message_id   text NOT NULL,                      -- the Message-ID header, the same at every attempt
    local_after_email boolean NOT NULL,                   -- as it was when the message came
    state             text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'sent', 'failed', 'cancelled')),
    detail            text NOT NULL DEFAULT '',
    attempts          integer NOT NULL DEFAULT 0,
    next_try_at       timestamptz NOT NULL DEFAULT now(),
    created_at        timestamptz NOT NULL DEFAULT now(),
    settled_at        timestamptz,                        -- when state left 'queued'
    recording_state   text NOT NULL DEFAULT 'kept' CHECK (recording_state IN ('kept', 'deleting', 'deleted')),
    recording_detail  text NOT NULL DEFAULT '',
    recording_tries   integer NOT NULL DEFAULT 0,
    recording_next_at timestamptz
);
CREATE INDEX notification_due ON voicemail.notification (next_try_at) WHERE state = 'queued';
CREATE INDEX notification_deleting ON voicemail.notification (recording_next_at) WHERE recording_state = 'deleting';
CREATE INDEX notification_mailbox ON voicemail.notification (domain, extension, created_at DESC);

CREATE TABLE voicemail.notification_recipient (
    notification_id uuid NOT NULL REFERENCES voicemail.notification (id) ON DELETE CASCADE,
    address         text NOT NULL,
    state           text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'accepted', 'refused')),
    code            integer,                              -- of the SMTP reply
    reply           text NOT NULL DEFAULT '',
    settled_at      timestamptz,
    PRIMARY KEY (notification_id, address)
);

CREATE TABLE voicemail.api_token (
    name       text PRIMARY KEY,
    digest     bytea NOT NULL UNIQUE,                     -- SHA-256 of the token
    domains    text[],                                    -- NULL: every domain
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Facts about this installation, such as when the service first started on this switch.
CREATE TABLE voicemail.installation (
    name  text PRIMARY KEY,
    value text NOT NULL
);
