-- The service's own schema. Nothing here refers to the switch's tables, and nothing is added to them:
-- mod_voicemail drops and recreates its tables when a probe of its columns fails at profile load.

-- NULL in a column that may be: the service's own setting.
CREATE TABLE voicemail.domain (
    name           text PRIMARY KEY,                      -- as the switch's directory and voicemail_msgs write it
    description    text NOT NULL DEFAULT '',
    time_zone      text,                                  -- VOICEMAIL_TIME_ZONE
    language       text,                                  -- a BCP 47 tag, of its mails
    mail_from      text,                                  -- VOICEMAIL_MAIL_FROM
    mail_from_name text,
    reply_to       text,
    pin_policy     text NOT NULL DEFAULT 'warn' CHECK (pin_policy IN ('off', 'warn', 'refuse')),  -- of new PINs that are weak
    pin_min_length integer NOT NULL DEFAULT 6 CHECK (pin_min_length BETWEEN 4 AND 32),  -- digits of a new PIN
    mail_domains   text[] NOT NULL DEFAULT '{}',          -- the only hosts that mails may go to, in small letters; none: any host
    trash_days     integer CHECK (trash_days BETWEEN 1 AND 3650),  -- VOICEMAIL_TRASH_DAYS
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now()
);
-- Domains that differ only in capitals would be one host and two tenants.
CREATE UNIQUE INDEX domain_lower_name ON voicemail.domain (lower(name));

CREATE TABLE voicemail.mailbox (
    id                uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    domain            text NOT NULL REFERENCES voicemail.domain (name),
    extension         text NOT NULL,
    pin_encrypted     bytea NOT NULL,                     -- 0x01, the id of its key (4 bytes), nonce (12), AES-GCM
    mail_to           text NOT NULL DEFAULT '',           -- addresses as given, separated by commas
    local_after_email boolean NOT NULL DEFAULT true,
    enabled           boolean NOT NULL,
    description       text NOT NULL DEFAULT '',
    time_zone         text,                               -- NULL: its domain's
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
    prefs_digest bytea,                                   -- of the PIN last seen in or written to voicemail_prefs: its key's id (4 bytes), HMAC
    adopted_file text NOT NULL DEFAULT '',                -- the stamp of a file without our mark that may be replaced: it was adopted
    removed_id   uuid,                                    -- of a removal: the id that the mailbox had
    PRIMARY KEY (domain, extension)
);
CREATE INDEX directory_entry_removed ON voicemail.directory_entry (removed_id) WHERE removed_id IS NOT NULL;
CREATE INDEX directory_entry_due ON voicemail.directory_entry (next_try_at) WHERE state <> 'applied';

-- Wrong PINs that were given for a mailbox, by phone or by the API. They are kept for an hour, or for twice the time they count.
CREATE TABLE voicemail.failed_login (
    id         text PRIMARY KEY,                          -- of the switch's event, so that each counts once, whoever heard it
    mailbox_id uuid NOT NULL REFERENCES voicemail.mailbox (id) ON DELETE CASCADE,
    source     text NOT NULL CHECK (source IN ('phone', 'api')),
    call       text NOT NULL,                             -- Unique-ID of the phone call; '' if not known
    at         timestamptz NOT NULL,
    counted    boolean NOT NULL DEFAULT true              -- false: the same call knew the PIN then, or a lock came of it
);
CREATE INDEX failed_login_counted ON voicemail.failed_login (at, mailbox_id) WHERE counted;
CREATE INDEX failed_login_mailbox ON voicemail.failed_login (mailbox_id);

-- Mailboxes that are or were locked after too many wrong PINs. The mailbox keeps its own PIN; only the switch has another one.
CREATE TABLE voicemail.mailbox_lock (
    mailbox_id   uuid PRIMARY KEY REFERENCES voicemail.mailbox (id) ON DELETE CASCADE,
    number       integer NOT NULL,                        -- of locks so far; the switch's PIN is made from it and the secret key
    level        integer NOT NULL,                        -- of locks in a row: each takes twice as long as the one before
    locked_until timestamptz,                             -- NULL: not locked. When this has passed, some copy of the service sets it
    ended_at     timestamptz                              -- of the last lock; NULL: none ended, or an administrator ended it
);
CREATE INDEX mailbox_lock_due ON voicemail.mailbox_lock (locked_until) WHERE locked_until IS NOT NULL;

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
    -- What a mail says of the message, should the switch lose the row before: cleaned and cut, so that any row fits.
    caller_name   text NOT NULL DEFAULT '',
    caller_number text NOT NULL DEFAULT '',
    duration      integer NOT NULL DEFAULT 0,             -- whole seconds, as the switch counted them
    seen_at       timestamptz NOT NULL DEFAULT now()
);
-- For lists: from the rows of a mailbox to their ids, side by side, without a look at the table (app/messages/pages.py).
CREATE INDEX message_row ON voicemail.message (username, domain, created_epoch, uuid) INCLUDE (id, file_path) WHERE exact;
CREATE INDEX message_recording ON voicemail.message (recording);

-- Rows that were there when the service first started: no news. Emptied when all of them are in voicemail.message.
CREATE TABLE voicemail.baseline (
    row_key bytea PRIMARY KEY                             -- as in voicemail.message
);

-- leave-message events. The switch fires them before an INSERT whose failure it ignores, so each is kept until its row was seen.
CREATE TABLE voicemail.heard_message (
    file_path     text PRIMARY KEY,                       -- as the switch writes it
    domain        text NOT NULL,                          -- as the path says, whatever the event said
    username      text NOT NULL,                          -- likewise
    uuid          text NOT NULL,
    caller_name   text NOT NULL,                          -- cleaned, and short enough for voicemail_msgs
    caller_number text NOT NULL,                          -- likewise
    created_epoch bigint NOT NULL,
    duration      integer NOT NULL,                       -- whole seconds, as the switch counted them
    read_flags    text NOT NULL,
    heard_at      timestamptz NOT NULL DEFAULT now(),
    due_at        timestamptz NOT NULL,                   -- when to look whether its row came
    inserting_at  timestamptz,                            -- set before this service inserts the row itself
    mwi_sent      boolean NOT NULL DEFAULT false          -- whether the phones were told of the row that this service inserted
);
CREATE INDEX heard_message_due ON voicemail.heard_message (due_at);

CREATE TABLE voicemail.recording (
    path        text PRIMARY KEY CHECK (octet_length(path) <= 2000),  -- relative to the recordings folder
    size        bigint NOT NULL,                          -- bytes
    mtime_ns    bigint NOT NULL,
    duration    double precision,                         -- seconds, from the data; NULL: not a format this service can read
    codec       text NOT NULL,
    sample_rate integer,
    channels    integer,
    sha256      bytea,                                    -- NULL: the file is over 1 GiB, reading it took over 10 s, or it failed
    damage      text NOT NULL DEFAULT '',                 -- why its facts are missing, such as a header that cannot be true
    indexed_at  timestamptz NOT NULL DEFAULT now()
);

-- The messages that are to leave the switch, or left it: each for one reason. A row is worked on until it is 'deleted' or 'kept'.
CREATE TABLE voicemail.removal (
    id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    message_id  uuid NOT NULL REFERENCES voicemail.message (id),
    reason      text NOT NULL,                            -- 'after_mail', 'trash', 'delete' or 'move'; its guard is read again at the moment of removal
    state       text NOT NULL DEFAULT 'asked' CHECK (state IN (
                    'asked',                              -- nothing was done yet
                    'deleting',                           -- the row may be deleted: the statement is under way, or was cut off
                    'row_gone',                           -- the row is deleted; its file is next
                    'file_gone',                          -- the file is removed, or it stays for another row; MWI is next
                    'told',                               -- MWI was sent; it is sent once more
                    'deleted', 'kept')),
    detail      text NOT NULL DEFAULT '',                 -- why it waits, why it was kept, or a remark on how it went
    tries       integer NOT NULL DEFAULT 0,
    next_try_at timestamptz NOT NULL DEFAULT now(),
    asked_at    timestamptz NOT NULL DEFAULT now(),
    settled_at  timestamptz,                              -- when it was deleted or kept
    UNIQUE (message_id, reason)
);
CREATE INDEX removal_due ON voicemail.removal (next_try_at) WHERE state NOT IN ('deleted', 'kept');

-- One mail for all messages of a mailbox beyond its limit of mails an hour. It collects until it is due, and is then closed:
-- its mails are rows of voicemail.notice, one an address.
CREATE TABLE voicemail.digest (
    id              uuid PRIMARY KEY,
    mailbox_id      uuid NOT NULL,                        -- no foreign key: the mailbox may be deleted
    domain          text NOT NULL,
    extension       text NOT NULL,
    mail_message_id text NOT NULL,                        -- the Message-ID header of its mails
    created_at      timestamptz NOT NULL DEFAULT now(),
    due_at          timestamptz NOT NULL,
    closed_at       timestamptz                           -- no message is added any more
);
CREATE UNIQUE INDEX digest_open ON voicemail.digest (mailbox_id) WHERE closed_at IS NULL;
CREATE INDEX digest_due ON voicemail.digest (due_at) WHERE closed_at IS NULL;
CREATE INDEX digest_mailbox ON voicemail.digest (mailbox_id, due_at);

-- A mail without a recording, to one address: a digest, or that a mailbox has the address no more.
CREATE TABLE voicemail.notice (
    id              uuid PRIMARY KEY,
    kind            text NOT NULL CHECK (kind IN ('digest', 'dropped')),
    digest_id       uuid REFERENCES voicemail.digest (id),
    domain          text NOT NULL,
    extension       text NOT NULL,
    address         text NOT NULL,
    mail_message_id text NOT NULL,                        -- the Message-ID header, the same at every attempt
    state           text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'sent', 'failed', 'unknown', 'cancelled')),
    code            integer,                              -- of the SMTP reply
    detail          text NOT NULL DEFAULT '',             -- the server's words, or why it was not sent
    attempts        integer NOT NULL DEFAULT 0,
    unknowns        integer NOT NULL DEFAULT 0,           -- attempts that sent the content and had no answer to it
    created_at      timestamptz NOT NULL DEFAULT now(),
    next_try_at     timestamptz NOT NULL DEFAULT now(),
    settled_at      timestamptz,                          -- when state left 'queued'
    CHECK ((kind = 'digest') = (digest_id IS NOT NULL)),
    UNIQUE (digest_id, address)
);
CREATE INDEX notice_due ON voicemail.notice (next_try_at) WHERE state = 'queued';
-- For the limits of mails to dropped addresses.
CREATE INDEX notice_domain ON voicemail.notice (domain, created_at) WHERE kind = 'dropped';
CREATE INDEX notice_address ON voicemail.notice (lower(address), created_at) WHERE kind = 'dropped';

-- The messages in the trash: every column of the row in voicemail_msgs, exactly as it was, so that it can be put back. The texts
-- are bytes, because a switch database of encoding SQL_ASCII holds what is no UTF-8.
CREATE TABLE voicemail.trash (
    message_id    uuid PRIMARY KEY REFERENCES voicemail.message (id),
    state         text NOT NULL CHECK (state IN (
                      'moving',                           -- copied; the row is still in the mailbox, or was just deleted
                      'kept',                             -- the row is deleted: only this one is left
                      'restoring')),                      -- it is being put back: the row may be in the mailbox already
    deleted_at    timestamptz NOT NULL DEFAULT now(),
    file          text NOT NULL DEFAULT '',               -- its name in the trash folder; '': there was no recording
    size          bigint,                                 -- bytes of that
    created_epoch integer,
    read_epoch    integer,
    username      bytea,
    domain        bytea,
    uuid          bytea,
    cid_name      bytea,
    cid_number    bytea,
    in_folder     bytea,
    file_path     bytea,                                  -- while it is restored: where the recording goes
    message_len   integer,
    flags         bytea,
    read_flags    bytea,
    forwarded_by  bytea
);
CREATE INDEX trash_deleted ON voicemail.trash (deleted_at);

-- Messages that are moved, copied or forwarded to another mailbox: the new row in voicemail_msgs, before it is inserted. The texts
-- that callers wrote are bytes, as in voicemail.trash.
CREATE TABLE voicemail.transfer (
    id            uuid PRIMARY KEY,                       -- also the new message's id, its row's uuid, and in its recording's name
    message_id    uuid NOT NULL REFERENCES voicemail.message (id),  -- the message that it is made from
    kind          text NOT NULL CHECK (kind IN ('move', 'copy', 'forward')),
    state         text NOT NULL DEFAULT 'asked' CHECK (state IN (
                      'asked',                            -- the recording may be in the target's folder, the row is not there
                      'placed',                           -- the recording is in the target's folder; the row may be there
                      'done',                             -- the row is there, or was; of a move the removal of the source is asked for
                      'failed')),                         -- nothing is in the target's mailbox
    detail        text NOT NULL DEFAULT '',               -- why it waits or failed
    tries         integer NOT NULL DEFAULT 0,
    next_try_at   timestamptz NOT NULL DEFAULT now(),
    asked_at      timestamptz NOT NULL DEFAULT now(),
    settled_at    timestamptz,                            -- when it was done or failed
    source_path   bytea NOT NULL,                         -- the source's recording, as the switch names it
    created_epoch integer,
    username      text NOT NULL,
    domain        text NOT NULL,
    cid_name      bytea NOT NULL,
    cid_number    bytea NOT NULL,
    file_path     bytea NOT NULL UNIQUE,                  -- where the recording goes, as the switch names it
    message_len   integer,
    read_flags    bytea NOT NULL,
    forwarded_by  bytea NOT NULL
);
CREATE INDEX transfer_due ON voicemail.transfer (next_try_at) WHERE state NOT IN ('done', 'failed');
-- A message is moved once: then it is in its mailbox no more.
CREATE UNIQUE INDEX transfer_move ON voicemail.transfer (message_id) WHERE kind = 'move' AND state <> 'failed';

-- Mailboxes whose phones are to be told how many messages there are, because this service changed some.
CREATE TABLE voicemail.phone_update (
    domain   text NOT NULL,
    username text NOT NULL,
    revision bigint NOT NULL DEFAULT 1,                   -- raised by every change
    tries    integer NOT NULL DEFAULT 0,
    due_at   timestamptz NOT NULL,                        -- the process that made the change does it sooner, unless it died
    PRIMARY KEY (domain, username)
);
CREATE INDEX phone_update_due ON voicemail.phone_update (due_at);

-- The ledger of mails: what was to be sent, and every outcome. What became of the recording says voicemail.removal.
CREATE TABLE voicemail.notification (
    id                uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    message_id        uuid NOT NULL UNIQUE REFERENCES voicemail.message (id),
    mailbox_id        uuid NOT NULL,                      -- no foreign key: the mailbox may be deleted, the ledger stays
    domain            text NOT NULL,
    extension         text NOT NULL,
    mail_message_id   text NOT NULL,                      -- the Message-ID header, the same at every attempt
    local_after_email boolean NOT NULL,                   -- as it was when the message came
    -- 'digested': no mail of its own, a digest announces it without the recording, which stays.
    state             text NOT NULL DEFAULT 'queued' CHECK (state IN (
                          'queued', 'sent', 'failed', 'unknown', 'cancelled', 'digested')),
    detail            text NOT NULL DEFAULT '',
    attempts          integer NOT NULL DEFAULT 0,
    unknowns          integer NOT NULL DEFAULT 0,         -- attempts that sent the content and had no answer to it
    next_try_at       timestamptz NOT NULL DEFAULT now(),
    created_at        timestamptz NOT NULL DEFAULT now(),
    settled_at        timestamptz,                        -- when state left 'queued'
    recording_detail  text NOT NULL DEFAULT '',           -- why the recording is kept and no removal is asked for
    digest_id         uuid REFERENCES voicemail.digest (id),
    CHECK ((state = 'digested') = (digest_id IS NOT NULL))
);
-- For the limit of mails an hour.
CREATE INDEX notification_mailed ON voicemail.notification (mailbox_id, created_at) WHERE digest_id IS NULL;
CREATE INDEX notification_digest ON voicemail.notification (digest_id) WHERE digest_id IS NOT NULL;
CREATE INDEX notification_due ON voicemail.notification (next_try_at) WHERE state = 'queued';
CREATE INDEX notification_mailbox ON voicemail.notification (domain, extension, created_at DESC);

CREATE TABLE voicemail.notification_recipient (
    notification_id uuid NOT NULL REFERENCES voicemail.notification (id) ON DELETE CASCADE,
    address         text NOT NULL,
    -- 'unknown' is written before the content goes; accepted and refused are final.
    state           text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'unknown', 'accepted', 'refused')),
    code            integer,                              -- of the SMTP reply
    reply           text NOT NULL DEFAULT '',
    settled_at      timestamptz,
    PRIMARY KEY (notification_id, address)
);

-- A bearer token: what it allows. Its text is nowhere; the digests that are valid for it are in api_token_secret.
CREATE TABLE voicemail.api_token (
    name           text PRIMARY KEY,
    id             uuid NOT NULL UNIQUE DEFAULT gen_random_uuid(),  -- for the audit: a later token may have the same name
    all_domains    boolean NOT NULL,                      -- every domain, also those that come later; else api_token_domain
    all_scopes     boolean NOT NULL,                      -- every scope, also those of later releases; else scopes
    scopes         text[] NOT NULL,
    default_domain text REFERENCES voicemail.domain (name),  -- of a call that names none; NULL: VOICEMAIL_DOMAIN
    created_at     timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE voicemail.api_token_domain (
    token  text NOT NULL REFERENCES voicemail.api_token (name) ON DELETE CASCADE,
    domain text NOT NULL REFERENCES voicemail.domain (name),
    PRIMARY KEY (token, domain)
);
CREATE INDEX api_token_domain_domain ON voicemail.api_token_domain (domain);

-- A rotation adds a row; the ones before it expire when the overlap is over.
CREATE TABLE voicemail.api_token_secret (
    digest       bytea PRIMARY KEY,                       -- SHA-256 of the token's text
    token        text NOT NULL REFERENCES voicemail.api_token (name) ON DELETE CASCADE,
    current      boolean NOT NULL DEFAULT true,           -- false: replaced by a rotation
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz NOT NULL,
    last_used_at timestamptz                              -- to the minute
);
CREATE INDEX api_token_secret_token ON voicemail.api_token_secret (token);

-- Links to recordings that work without a token. The text in the URL is nowhere, so reading this table opens no recording.
CREATE TABLE voicemail.link (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    digest     bytea NOT NULL UNIQUE,                     -- SHA-256 of the text in the URL
    message_id uuid NOT NULL REFERENCES voicemail.message (id) ON DELETE CASCADE,
    domain     text NOT NULL,                             -- of the message
    token_id   uuid,                                      -- that made it, and without whose right it is dead; NULL: VOICEMAIL_API_TOKEN. No foreign key: a revoked token kills its links
    made_by    text NOT NULL,                             -- that token's name
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
CREATE INDEX link_message ON voicemail.link (message_id);
CREATE INDEX link_expires_at ON voicemail.link (expires_at);

-- Facts about this installation: its id, which each mailbox file names; when it first started on this switch; what is wrong in
-- the directory folder of a domain ('directory of DOMAIN', '' where all is well).
CREATE TABLE voicemail.installation (
    name  text PRIMARY KEY,
    value text NOT NULL
);

-- Who did what. The row of a change is written in the change's transaction, the row of a reading before the answer. No row is ever
-- updated. docs/operations.md says how the service's own role is left without the right to change or remove rows.
CREATE TABLE voicemail.audit (
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),  -- of refused requests: the minute
    id         bigint GENERATED ALWAYS AS IDENTITY,
    actor      text NOT NULL CHECK (actor IN ('token', 'link', 'command', 'phone', 'service', 'nobody')),
    name       text NOT NULL DEFAULT '',                  -- of the token (also of the one that made the link), or of the command line's user; '': nobody
    token_id   uuid,                                      -- no foreign key: the token may be revoked, the row stays
    address    text NOT NULL DEFAULT '',                  -- of the client; of refused requests over IPv6 its /64
    user_agent text NOT NULL DEFAULT '',                  -- as the client says
    request_id text NOT NULL DEFAULT '',
    action     text NOT NULL,
    domain     text,                                      -- NULL: it is about no domain, or about several
    extension  text,
    target     text NOT NULL DEFAULT '',                  -- the id of a message or mailbox, the name of a token
    detail     text NOT NULL DEFAULT '',                  -- such as the names of the fields that changed; never a secret
    result     text NOT NULL CHECK (result IN ('done', 'allowed', 'unauthorized', 'forbidden', 'not_found')),
    count      integer NOT NULL DEFAULT 1,                -- of PINs in an answer, or of refused requests in the minute
    PRIMARY KEY (at, id)
);
CREATE INDEX audit_domain ON voicemail.audit (domain, at, id) WHERE domain IS NOT NULL;

-- Requests with an Idempotency-Key, for a day. An answer may hold a PIN or the text of a token: it is sealed with a key made of the
-- client's own token and Idempotency-Key, neither of which is here.
CREATE TABLE voicemail.idempotency (
    key         bytea PRIMARY KEY,                        -- SHA-256 of the token's id and the Idempotency-Key
    fingerprint bytea NOT NULL,                           -- SHA-256 of method, path, query and body
    run         uuid NOT NULL,                            -- the request that holds the key; another one cannot commit its change
    acted       boolean NOT NULL DEFAULT false,           -- set in the transaction of the change
    answer      bytea,                                    -- nonce (12), AES-GCM of status, headers and body; NULL: none yet
    begun_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX idempotency_begun ON voicemail.idempotency (begun_at);

-- One row: VOICEMAIL_AUDIT_DAYS may ask for more days, and cannot ask for fewer. Its owner raises it where the audit is protected.
CREATE TABLE voicemail.audit_policy (
    keep_days integer NOT NULL CHECK (keep_days >= 1)
);
INSERT INTO voicemail.audit_policy (keep_days) VALUES (1);

-- The only way in which rows leave: the oldest first, at most so many. It runs with the rights of its owner.
CREATE FUNCTION voicemail.purge_audit(keep_days integer, most integer) RETURNS integer
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH old AS (
        SELECT a.at, a.id FROM voicemail.audit a
        WHERE a.at < now() - make_interval(days => greatest($1, (SELECT max(p.keep_days) FROM voicemail.audit_policy p)))
        ORDER BY a.at, a.id LIMIT $2
    ), gone AS (
        DELETE FROM voicemail.audit a USING old WHERE a.at = old.at AND a.id = old.id RETURNING 1
    )
    SELECT count(*)::integer FROM gone
$$;
REVOKE ALL ON FUNCTION voicemail.purge_audit(integer, integer) FROM PUBLIC;
