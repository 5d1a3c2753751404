-- As mod_voicemail 1.10.12 creates them.
CREATE TABLE IF NOT EXISTS voicemail_msgs (
    created_epoch integer, read_epoch integer, username varchar(255), domain varchar(255), uuid varchar(255),
    cid_name varchar(255), cid_number varchar(255), in_folder varchar(255), file_path varchar(255), message_len integer,
    flags varchar(255), read_flags varchar(255), forwarded_by varchar(255)
);
CREATE TABLE IF NOT EXISTS voicemail_prefs (
    username varchar(255), domain varchar(255), name_path varchar(255), greeting_path varchar(255), password varchar(255)
);
CREATE INDEX IF NOT EXISTS voicemail_msgs_idx1 ON voicemail_msgs (created_epoch);
CREATE INDEX IF NOT EXISTS voicemail_msgs_idx2 ON voicemail_msgs (username);
CREATE INDEX IF NOT EXISTS voicemail_msgs_idx3 ON voicemail_msgs (domain);
CREATE INDEX IF NOT EXISTS voicemail_msgs_idx4 ON voicemail_msgs (uuid);
CREATE INDEX IF NOT EXISTS voicemail_msgs_idx5 ON voicemail_msgs (in_folder);
CREATE INDEX IF NOT EXISTS voicemail_msgs_idx6 ON voicemail_msgs (read_flags);
CREATE INDEX IF NOT EXISTS voicemail_msgs_idx7 ON voicemail_msgs (forwarded_by);
CREATE INDEX IF NOT EXISTS voicemail_msgs_idx8 ON voicemail_msgs (read_epoch);
CREATE INDEX IF NOT EXISTS voicemail_msgs_idx9 ON voicemail_msgs (flags);
CREATE INDEX IF NOT EXISTS voicemail_prefs_idx1 ON voicemail_prefs (username);
CREATE INDEX IF NOT EXISTS voicemail_prefs_idx2 ON voicemail_prefs (domain);
