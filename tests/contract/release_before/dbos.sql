BEGIN TRANSACTION;
CREATE TABLE application_versions (
    version_id TEXT NOT NULL PRIMARY KEY,
    version_name TEXT NOT NULL UNIQUE,
    version_timestamp INTEGER NOT NULL DEFAULT (strftime('%s','now') * 1000),
    created_at INTEGER NOT NULL DEFAULT (strftime('%s','now') * 1000)
, "application_name" TEXT DEFAULT NULL);
INSERT INTO "application_versions" VALUES('83ff8897-b365-4a14-869a-5ab518f01de8','attune-learn-1',1795644494000,1795644494000,'attune');
CREATE TABLE dbos_migrations (version INTEGER NOT NULL PRIMARY KEY);
INSERT INTO "dbos_migrations" VALUES(125);
CREATE TABLE notifications (
    message_uuid TEXT NOT NULL DEFAULT (hex(randomblob(16))) PRIMARY KEY,
    destination_uuid TEXT NOT NULL,
    topic TEXT,
    message TEXT NOT NULL,
    created_at_epoch_ms INTEGER NOT NULL DEFAULT (strftime('%s','now') * 1000), "serialization" TEXT DEFAULT NULL, "consumed" BOOLEAN NOT NULL DEFAULT FALSE, consumed_by_function_id INTEGER,
    FOREIGN KEY (destination_uuid) REFERENCES workflow_status(workflow_uuid) 
        ON UPDATE CASCADE ON DELETE CASCADE
);
CREATE TABLE "operation_outputs" (
    workflow_uuid TEXT NOT NULL,
    function_id INTEGER NOT NULL,
    function_name TEXT NOT NULL DEFAULT '',
    output TEXT,
    error TEXT,
    child_workflow_id TEXT,
    started_at_epoch_ms INTEGER,
    completed_at_epoch_ms INTEGER,
    serialization TEXT,
    application_name TEXT DEFAULT NULL,
    retention_timestamp INTEGER NOT NULL DEFAULT (strftime('%s','now') * 1000),
    PRIMARY KEY (workflow_uuid, function_id)
);
INSERT INTO "operation_outputs" VALUES('exp_c3768b51a86cc9d255d2a2c4',1,'export.base','gAROLg==',NULL,NULL,1795644495986,1795644496001,'py_pickle','attune',1795644496000);
INSERT INTO "operation_outputs" VALUES('exp_c3768b51a86cc9d255d2a2c4',2,'export.build','gAROLg==',NULL,NULL,1795644496008,1795644496110,'py_pickle','attune',1795644496000);
INSERT INTO "operation_outputs" VALUES('exp_c3768b51a86cc9d255d2a2c4',3,'export.tidy','gAROLg==',NULL,NULL,1795644496112,1795644496115,'py_pickle','attune',1795644496000);
INSERT INTO "operation_outputs" VALUES('exp_328902e8a4f96194d17bbad4',1,'export.base','gAROLg==',NULL,NULL,1795644496203,1795644496277,'py_pickle','attune',1795644496000);
INSERT INTO "operation_outputs" VALUES('exp_328902e8a4f96194d17bbad4',2,'export.build','gAROLg==',NULL,NULL,1795644496297,1795644496310,'py_pickle','attune',1795644496000);
INSERT INTO "operation_outputs" VALUES('exp_328902e8a4f96194d17bbad4',3,'export.tidy','gAROLg==',NULL,NULL,1795644496321,1795644496325,'py_pickle','attune',1795644496000);
INSERT INTO "operation_outputs" VALUES('exp_e7d514905c4a81ae5ea62033',1,'export.base','gAROLg==',NULL,NULL,1795644496406,1795644496408,'py_pickle','attune',1795644496000);
INSERT INTO "operation_outputs" VALUES('run_5cfd4b054c6505d41094f8b0',1,'snapshot','gASVRAAAAAAAAACMQDM1NTEyNjQ1YmRhZWMyZDc1ZWFlNmU1MzQ0MGFiMGEyOTg3NWE5MDNiZjI0MTM1NWFhNmM2NWNiMzE0MjkxZDCULg==',NULL,NULL,1795644496454,1795644496474,'py_pickle','attune',1795644496000);
INSERT INTO "operation_outputs" VALUES('run_5cfd4b054c6505d41094f8b0',2,'plan','gASVUAAAAAAAAABdlCiMDHRyYWluZXIucGxhbpSMCUNhbmRpZGF0ZZSTlCmBlF2UKIwDa3RvlIwFZnJlc2iUZWJoAymBlF2UKGgGjAljb250aW51ZWSUZWJlLg==',NULL,NULL,1795644496480,1795644496482,'py_pickle','attune',1795644496000);
INSERT INTO "operation_outputs" VALUES('run_5cfd4b054c6505d41094f8b0',3,'train','gASV2AAAAAAAAAB9lCiMBHBhdGiUjDUvdG1wL2hvbWUvcnVucy9ydW5fNWNmZDRiMDU0YzY1MDVkNDEwOTRmOGIwL2t0by1mcmVzaJSMBm1ldGhvZJRLAowFc3RhcnSUSwKMBXN0ZXBzlEsCjAd0cmFpbl9zlEc/4AAAAAAAAIwKZmluYWxfbG9zc5RHP+AAAAAAAACMEGRyb3BwZWRfdG9vX2xvbmeUSwKMCGV4YW1wbGVzlEsAjBJkcm9wcGVkX3VucmVhZGFibGWUSwCMBG5hbWWUjAlrdG8tZnJlc2iUdS4=',NULL,NULL,1795644496486,1795644496501,'py_pickle','attune',1795644496000);
INSERT INTO "operation_outputs" VALUES('run_5cfd4b054c6505d41094f8b0',4,'train','gASV4AAAAAAAAAB9lCiMBHBhdGiUjDkvdG1wL2hvbWUvcnVucy9ydW5fNWNmZDRiMDU0YzY1MDVkNDEwOTRmOGIwL2t0by1jb250aW51ZWSUjAZtZXRob2SUSwKMBXN0YXJ0lEsCjAVzdGVwc5RLAowHdHJhaW5fc5RHP+AAAAAAAACMCmZpbmFsX2xvc3OURz/gAAAAAAAAjBBkcm9wcGVkX3Rvb19sb25nlEsCjAhleGFtcGxlc5RLAIwSZHJvcHBlZF91bnJlYWRhYmxllEsAjARuYW1llIwNa3RvLWNvbnRpbnVlZJR1Lg==',NULL,NULL,1795644496508,1795644496516,'py_pickle','attune',1795644496000);
INSERT INTO "operation_outputs" VALUES('run_5cfd4b054c6505d41094f8b0',5,'evaluate','gASVnwEAAAAAAABdlIwNdHJhaW5lci5zdGVwc5SMBkp1ZGdlZJSTlCmBlF2UKIwHcGF0aGxpYpSMCVBvc2l4UGF0aJSTlCiMAS+UjAN0bXCUjARob21llIwEcnVuc5SMHHJ1bl81Y2ZkNGIwNTRjNjUwNWQ0MTA5NGY4YjCUjAlrdG8tZnJlc2iUdJRSlGgOjA10cmFpbmVyLnR5cGVzlIwKRXZhbHVhdGlvbpSTlCmBlF2UKGgRjAhJbnRlcnZhbJSTlCmBlF2UKEe/yZmZmZmZmke/4AAAAAAAAEc/uZmZmZmZmksKZWJHP/AAAAAAAABHP/AAAAAAAABOSwpLAEc/uZmZmZmZmilOZWKMDmZlZWRiYWNrLnR5cGVzlIwHVmVyZGljdJSTlCmBlF2UKIloGowFQ2hlY2uUk5QpgZRdlCiMEXByZWZlcmVuY2UgbWFyZ2lulImMJy0wLjIgb2YgMTA7IHRoZSBpbnRlcnZhbCBtdXN0IGJlIG92ZXIgMJRlYmggKYGUXZQojAVkcmlmdJSIjAgxLjAgbmF0c5RlYoaUZWJlYmEu',NULL,NULL,1795644496533,1795644496548,'py_pickle','attune',1795644496000);
CREATE TABLE queues (
    queue_id TEXT PRIMARY KEY DEFAULT (hex(randomblob(16))),
    name TEXT NOT NULL UNIQUE,
    concurrency INTEGER,
    worker_concurrency INTEGER,
    rate_limit_max INTEGER,
    rate_limit_period_sec REAL,
    priority_enabled BOOLEAN NOT NULL DEFAULT FALSE,
    partition_queue BOOLEAN NOT NULL DEFAULT FALSE,
    polling_interval_sec REAL NOT NULL DEFAULT 1.0,
    created_at INTEGER NOT NULL DEFAULT (strftime('%s','now') * 1000),
    updated_at INTEGER NOT NULL DEFAULT (strftime('%s','now') * 1000)
, "application_name" TEXT DEFAULT NULL, "partition_concurrency" INTEGER DEFAULT NULL, "partition_worker_concurrency" INTEGER DEFAULT NULL, "partition_rate_limit_max" INTEGER DEFAULT NULL, "partition_rate_limit_period_sec" REAL DEFAULT NULL);
INSERT INTO "queues" VALUES('A4F5B81514000426B56AEC4E9FF5676E','attune-learn',NULL,1,NULL,NULL,1,0,0.05,1795644494000,1795644494908,'attune',NULL,NULL,NULL,NULL);
INSERT INTO "queues" VALUES('037CAF21E84E591BEE35D3B69A56393A','attune-export',NULL,1,NULL,NULL,1,0,0.05,1795644494000,1795644494931,'attune',NULL,NULL,NULL,NULL);
CREATE TABLE streams (
    workflow_uuid TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    "offset" INTEGER NOT NULL, function_id INTEGER NOT NULL DEFAULT 0, "serialization" TEXT DEFAULT NULL,
    PRIMARY KEY (workflow_uuid, key, "offset"),
    FOREIGN KEY (workflow_uuid) REFERENCES workflow_status(workflow_uuid) 
        ON UPDATE CASCADE ON DELETE CASCADE
);
CREATE TABLE workflow_events (
    workflow_uuid TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL, "serialization" TEXT DEFAULT NULL,
    PRIMARY KEY (workflow_uuid, key),
    FOREIGN KEY (workflow_uuid) REFERENCES workflow_status(workflow_uuid) 
        ON UPDATE CASCADE ON DELETE CASCADE
);
CREATE TABLE workflow_events_history (
    workflow_uuid TEXT NOT NULL,
    function_id INTEGER NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL, "serialization" TEXT DEFAULT NULL,
    PRIMARY KEY (workflow_uuid, function_id, key),
    FOREIGN KEY (workflow_uuid) REFERENCES workflow_status(workflow_uuid)
        ON UPDATE CASCADE ON DELETE CASCADE
);
CREATE TABLE workflow_input (
    workflow_uuid TEXT NOT NULL PRIMARY KEY,
    inputs TEXT,
    retention_timestamp INTEGER NOT NULL DEFAULT (strftime('%s','now') * 1000)
);
INSERT INTO "workflow_input" VALUES('exp_c3768b51a86cc9d255d2a2c4','gASVOAAAAAAAAAB9lCiMBGFyZ3OUjBxleHBfYzM3NjhiNTFhODZjYzlkMjU1ZDJhMmM0lIWUjAZrd2FyZ3OUfZR1Lg==',1795644494000);
INSERT INTO "workflow_input" VALUES('exp_328902e8a4f96194d17bbad4','gASVOAAAAAAAAAB9lCiMBGFyZ3OUjBxleHBfMzI4OTAyZThhNGY5NjE5NGQxN2JiYWQ0lIWUjAZrd2FyZ3OUfZR1Lg==',1795644496000);
INSERT INTO "workflow_input" VALUES('run_5cfd4b054c6505d41094f8b0','gASVOAAAAAAAAAB9lCiMBGFyZ3OUjBxydW5fNWNmZDRiMDU0YzY1MDVkNDEwOTRmOGIwlIWUjAZrd2FyZ3OUfZR1Lg==',1795644496000);
INSERT INTO "workflow_input" VALUES('exp_e7d514905c4a81ae5ea62033','gASVOAAAAAAAAAB9lCiMBGFyZ3OUjBxleHBfZTdkNTE0OTA1YzRhODFhZTVlYTYyMDMzlIWUjAZrd2FyZ3OUfZR1Lg==',1795644496000);
CREATE TABLE workflow_output (
    workflow_uuid TEXT NOT NULL PRIMARY KEY,
    output TEXT,
    error TEXT,
    retention_timestamp INTEGER NOT NULL DEFAULT (strftime('%s','now') * 1000)
);
INSERT INTO "workflow_output" VALUES('exp_c3768b51a86cc9d255d2a2c4','gASVCAAAAAAAAACMBGRvbmWULg==',NULL,1795644496000);
INSERT INTO "workflow_output" VALUES('exp_328902e8a4f96194d17bbad4','gASVCAAAAAAAAACMBGRvbmWULg==',NULL,1795644496000);
CREATE TABLE workflow_schedules (
    schedule_id TEXT PRIMARY KEY,
    schedule_name TEXT NOT NULL UNIQUE,
    workflow_name TEXT NOT NULL,
    workflow_class_name TEXT,
    schedule TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'ACTIVE',
    context TEXT NOT NULL
, "last_fired_at" TEXT DEFAULT NULL, "automatic_backfill" BOOLEAN NOT NULL DEFAULT FALSE, "cron_timezone" TEXT DEFAULT NULL, "queue_name" TEXT DEFAULT NULL, "application_name" TEXT DEFAULT NULL);
CREATE TABLE workflow_status (
    workflow_uuid TEXT PRIMARY KEY,
    status TEXT,
    name TEXT,
    authenticated_user TEXT,
    assumed_role TEXT,
    authenticated_roles TEXT,
    request TEXT,
    output TEXT,
    error TEXT,
    executor_id TEXT,
    created_at INTEGER NOT NULL DEFAULT (strftime('%s','now') * 1000),
    updated_at INTEGER NOT NULL DEFAULT (strftime('%s','now') * 1000),
    application_version TEXT,
    application_id TEXT,
    class_name TEXT DEFAULT NULL,
    config_name TEXT DEFAULT NULL,
    recovery_attempts INTEGER DEFAULT 0,
    queue_name TEXT,
    workflow_timeout_ms INTEGER,
    workflow_deadline_epoch_ms INTEGER,
    inputs TEXT,
    started_at_epoch_ms INTEGER,
    deduplication_id TEXT,
    priority INTEGER NOT NULL DEFAULT 0
, queue_partition_key TEXT, forked_from TEXT, "owner_xid" TEXT DEFAULT NULL, "parent_workflow_id" TEXT DEFAULT NULL, "serialization" TEXT DEFAULT NULL, "delay_until_epoch_ms" BIGINT DEFAULT NULL, "was_forked_from" BOOLEAN NOT NULL DEFAULT FALSE, "rate_limited" BOOLEAN NOT NULL DEFAULT FALSE, "completed_at" BIGINT, "attributes" TEXT, "schedule_name" TEXT, "debounce_deadline_epoch_ms" BIGINT DEFAULT NULL, "is_debounced" BOOLEAN NOT NULL DEFAULT FALSE, "application_name" TEXT DEFAULT NULL, "creator_xid" TEXT DEFAULT NULL);
INSERT INTO "workflow_status" VALUES('exp_c3768b51a86cc9d255d2a2c4','SUCCESS','export',NULL,NULL,NULL,NULL,NULL,NULL,'local',1795644494000,1795644496000,'attune-learn-1','',NULL,NULL,1,'attune-export',NULL,NULL,NULL,1795644495000,NULL,0,NULL,NULL,NULL,NULL,'py_pickle',NULL,0,0,1795644496000,'null',NULL,NULL,0,'attune','8039d03e-f41e-4021-9bc1-15bb85c0cd99');
INSERT INTO "workflow_status" VALUES('exp_328902e8a4f96194d17bbad4','SUCCESS','export',NULL,NULL,NULL,NULL,NULL,NULL,'local',1795644496000,1795644496000,'attune-learn-1','',NULL,NULL,1,'attune-export',NULL,NULL,NULL,1795644496000,NULL,0,NULL,NULL,NULL,NULL,'py_pickle',NULL,0,0,1795644496000,'null',NULL,NULL,0,'attune','0ae72268-d101-453c-a919-ff3b129ac0dc');
INSERT INTO "workflow_status" VALUES('run_5cfd4b054c6505d41094f8b0','PENDING','learn',NULL,NULL,NULL,NULL,NULL,NULL,'local',1795644496000,1795644496000,'attune-learn-1','',NULL,NULL,1,'attune-learn',NULL,NULL,NULL,1795644496000,NULL,0,NULL,NULL,'1b5eb7f5-a484-4cfc-a0d2-e47d81e12026',NULL,'py_pickle',NULL,0,0,NULL,'null',NULL,NULL,0,'attune','f3a5a0dd-b431-4521-a88d-42b727d1a9fe');
INSERT INTO "workflow_status" VALUES('exp_e7d514905c4a81ae5ea62033','PENDING','export',NULL,NULL,NULL,NULL,NULL,NULL,'local',1795644496000,1795644496000,'attune-learn-1','',NULL,NULL,1,'attune-export',NULL,NULL,NULL,1795644496000,NULL,0,NULL,NULL,'0f77ef12-ff2d-4a7e-90ec-b7287289487b',NULL,'py_pickle',NULL,0,0,NULL,'null',NULL,NULL,0,'attune','2227bf58-2c1c-4a69-8623-2053ceff67ce');
CREATE INDEX workflow_status_created_at_index ON workflow_status (created_at);
CREATE INDEX idx_workflow_topic ON notifications (destination_uuid, topic);
CREATE INDEX "idx_workflow_status_delayed" ON "workflow_status" ("delay_until_epoch_ms") WHERE status = 'DELAYED';
CREATE INDEX "idx_workflow_status_forked_from" ON "workflow_status" ("forked_from") WHERE "forked_from" IS NOT NULL;
CREATE INDEX "idx_workflow_status_parent_workflow_id" ON "workflow_status" ("parent_workflow_id") WHERE "parent_workflow_id" IS NOT NULL;
CREATE UNIQUE INDEX "uq_workflow_status_dedup_id" ON "workflow_status" ("queue_name", "deduplication_id") WHERE "deduplication_id" IS NOT NULL;
CREATE INDEX "idx_workflow_status_pending" ON "workflow_status" ("created_at") WHERE "status" = 'PENDING';
CREATE INDEX "idx_workflow_status_failed" ON "workflow_status" ("status", "created_at") WHERE "status" IN ('ERROR', 'CANCELLED', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED');
CREATE INDEX "idx_workflow_status_rate_limited" ON "workflow_status" ("queue_name", "started_at_epoch_ms") WHERE "rate_limited" = TRUE;
CREATE INDEX "idx_workflow_status_completed_at" ON "workflow_status" ("completed_at") WHERE "completed_at" IS NOT NULL;
CREATE INDEX "idx_workflow_status_started_at" ON "workflow_status" ("started_at_epoch_ms") WHERE "started_at_epoch_ms" IS NOT NULL;
CREATE INDEX "idx_workflow_status_schedule_name" ON "workflow_status" ("schedule_name") WHERE "schedule_name" IS NOT NULL;
CREATE UNIQUE INDEX "uq_application_versions_owner_version"
    ON application_versions ("application_name", "version_name")
    WHERE "application_name" IS NOT NULL;
CREATE UNIQUE INDEX "uq_application_versions_unclaimed_version"
    ON application_versions ("version_name")
    WHERE "application_name" IS NULL;
CREATE INDEX idx_workflow_input_retention
    ON workflow_input (retention_timestamp);
CREATE INDEX idx_workflow_output_retention
    ON workflow_output (retention_timestamp);
CREATE INDEX idx_operation_outputs_retention
    ON operation_outputs (retention_timestamp);
CREATE INDEX "idx_workflow_status_in_flight_v2" ON "workflow_status" ("queue_name", "status", "priority", "created_at", "application_name") WHERE "status" IN ('ENQUEUED', 'PENDING');
CREATE INDEX "idx_workflow_status_partition_dequeue_v3" ON "workflow_status" ("queue_name", "status", "queue_partition_key", "priority", "created_at", "workflow_uuid", "application_name") WHERE "status" IN ('ENQUEUED', 'PENDING') AND "queue_partition_key" IS NOT NULL;
CREATE INDEX "idx_operation_outputs_completed_at_function_name_v2" ON "operation_outputs" ("completed_at_epoch_ms", "function_name", "application_name");
CREATE INDEX "idx_workflow_status_deadline" ON "workflow_status" ("workflow_deadline_epoch_ms") WHERE "status" IN ('ENQUEUED', 'PENDING', 'DELAYED') AND "workflow_deadline_epoch_ms" IS NOT NULL;
CREATE INDEX "idx_application_versions_timestamp" ON "application_versions" ("version_timestamp" DESC);
CREATE INDEX "idx_application_versions_owner_timestamp" ON "application_versions" ("application_name", "version_timestamp" DESC);
COMMIT;
